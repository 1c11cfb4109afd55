"""What is tried of each argument and option: `parameter | line without it | line with it | what one of them shows`.

The last is a regular expression that is found in exactly one of both outcomes (`command_lines`). `OUT` at the end of
a line is `--directory out`.
"""

from __future__ import annotations

COMMANDS = r"""
--version | list models | --version | stdout:\nraysim \d
run CONFIG | run tiny.yaml | run other.yaml | runs/tiny-[-\d]+/model\.safetensors
run KEY=VALUE | run tiny.yaml OUT | run tiny.yaml rounds=2 OUT | round 2/2
run --directory | run tiny.yaml | run tiny.yaml OUT | \nout/model\.safetensors
run --quiet | run tiny.yaml OUT | run tiny.yaml --quiet OUT | stdout:\nout\nstderr:\nexit code 0
run --json | run tiny.yaml OUT | run tiny.yaml --json OUT | "event": ?"round"
run --plain | terminal: run tiny.yaml OUT | terminal: run tiny.yaml --plain OUT | \nround 1/1
run --no-report | run tiny.yaml tracking.report=true OUT | run tiny.yaml tracking.report=true --no-report OUT |
    report\.html
run --debug | run tiny.yaml rounds=2 algorithm=faulty:Faulty OUT |
    run tiny.yaml rounds=2 algorithm=faulty:Faulty --debug OUT | Traceback
run --profile | run tiny.yaml OUT | run tiny.yaml --profile OUT | Where the time went
resume RUN | resume strange rounds=3 | resume done rounds=3 | exit code 0
resume KEY=VALUE | resume done rounds=3 | resume done rounds=4 | round 4/4
resume --allow-different-bits | resume strange rounds=3 | resume strange rounds=3 --allow-different-bits | exit code 0
resume --model | resume handed rounds=3 --data own:data --loss own:half --metric own:margin |
    resume handed rounds=3 --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
resume --data | resume handed rounds=3 --model own:model --loss own:half --metric own:margin |
    resume handed rounds=3 --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
resume --loss | resume handed rounds=3 --model own:model --data own:data --metric own:margin |
    resume handed rounds=3 --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
resume --metric | resume handed rounds=3 --model own:model --data own:data --loss own:half |
    resume handed rounds=3 --model own:model --data own:data --loss own:half --metric own:margin | margin
resume --quiet | resume done rounds=3 | resume done rounds=3 --quiet | stdout:\ndone\nstderr:\nexit code 0
resume --json | resume done rounds=3 | resume done rounds=3 --json | "event": ?"round"
resume --plain | terminal: resume done rounds=3 | terminal: resume done rounds=3 --plain | round 3/3
resume --no-report | resume done rounds=3 tracking.report=true | resume done rounds=3 tracking.report=true --no-report |
    report\.html
resume --debug | resume broken | resume broken --debug | Traceback
resume --profile | resume done rounds=3 | resume done rounds=3 --profile | Where the time went
report RUN... | report done | report nowhere | done/report\.html
report --out | report done | report done --out page.html | stdout:\npage\.html
report --json | report done | report done --json | "report": "done/report.html"
report --debug | report nowhere | report nowhere --debug | Traceback
export RUN | export adapted --to new | export done --to new | new/adapter_model
export --to | export adapted --to new | export adapted --to other | other/adapter_model
export --format | export done --to new.onnx | export done --to new.onnx --format onnx | needs onnx|\nnew\.onnx
export --merged | export adapted --to new | export adapted --to new --merged | new/model\.safetensors
export --json | export adapted --to new | export adapted --to new --json | "merged": false
export --debug | export nowhere --to new | export nowhere --to new --debug | Traceback
rebuild RUN | rebuild scalars --to new.safetensors | rebuild done --to new.safetensors | new\.safetensors
rebuild --to | rebuild scalars --to new.safetensors | rebuild scalars --to other.safetensors | other\.safetensors
rebuild --round | rebuild scalars --to new.safetensors | rebuild scalars --to new.safetensors --round 7 |
    no checkpoint of round 7
rebuild --json | rebuild scalars --to new.safetensors | rebuild scalars --to new.safetensors --json | "model": "new
rebuild --debug | rebuild nowhere --to new.safetensors | rebuild nowhere --to new.safetensors --debug | Traceback
run --seeds | run tiny.yaml OUT | run tiny.yaml --seeds 2 OUT | out/seed-1/model\.safetensors
compare RUN... | compare done | compare done strange | seed 0 is there twice
compare --metric | compare done | compare done --metric train/loss | group +seeds +train/loss
compare --at | compare done | compare done --at best | \(best\)
compare --format | compare done | compare done --format markdown | \| all runs \|
compare --picture | compare done | compare done --picture a.svg | files:\na\.svg
compare --json | compare done | compare done --json | "groups"
runs FOLDER | runs . | runs files | \ndone +\d
runs --filter | runs . | runs . --filter state=unfinished | \ndone +\d
runs --limit | runs . | runs . --limit 1 | --limit shows more
runs --json | runs . | runs . --json | "state": "finished"
init TEMPLATE | init torch project | init tabular project | project/patients\.csv
init FOLDER | init torch project | init torch other | other/experiment\.yaml
init --json | init torch project | init torch project --json | "template": "torch"
completion SHELL | completion bash | completion fish | COMPREPLY
completion --json | completion bash | completion bash --json | "script":
verify RUN | verify done | verify nowhere | exit code 0
verify --round | verify done | verify done --round 1 | \n +1 +\d\.\d+ +yes
verify --random | verify done | verify done --random 2 | \n +1 +\d\.\d+ +yes
verify --seed | verify done --random 1 | verify done --random 1 --seed 3 | \n +1 +\d\.\d+ +yes
verify --all | verify done | verify done --all | \n +1 +\d\.\d+ +yes
verify --anyway | verify strange | verify strange --anyway | exit code 0
verify --model | verify handed --data own:data --loss own:half --metric own:margin |
    verify handed --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
verify --data | verify handed --model own:model --loss own:half --metric own:margin |
    verify handed --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
verify --loss | verify handed --model own:model --data own:data --metric own:margin |
    verify handed --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
verify --metric | verify handed --model own:model --data own:data --loss own:half |
    verify handed --model own:model --data own:data --loss own:half --metric own:margin | exit code 0
verify --json | verify done | verify done --json | "seconds_per_round"
verify --debug | verify nowhere | verify nowhere --debug | Traceback
debug RUN | debug done --client 0 --round 1 | debug nowhere --client 0 --round 1 | nowhere: no
debug --client | debug done --client 0 --round 1 | debug done --client 9 --round 1 | there is no client 9
debug --round | debug done --client 0 --round 1 | debug done --client 0 --round 9 | there is no round 9
debug --pdb | debug done --client 0 --round 1 | debug done --client 0 --round 1 --pdb | \(Pdb\)
debug --model | debug handed --client 0 --round 1 --data own:data --loss own:half |
    debug handed --client 0 --round 1 --model own:model --data own:data --loss own:half | exit code 0
debug --data | debug handed --client 0 --round 1 --model own:model --loss own:half |
    debug handed --client 0 --round 1 --model own:model --data own:data --loss own:half | exit code 0
debug --loss | debug handed --client 0 --round 1 --model own:model --data own:data |
    debug handed --client 0 --round 1 --model own:model --data own:data --loss own:half | exit code 0
debug --json | debug done --client 0 --round 1 | debug done --client 0 --round 1 --json | "steps": 1
debug --debug | debug nowhere --client 0 --round 1 | debug nowhere --client 0 --round 1 --debug | Traceback
plan CONFIG | plan tiny.yaml | plan other.yaml | stdout:\ntiny\n
plan KEY=VALUE | plan tiny.yaml | plan tiny.yaml cohort=1 | round +1 of 3 clients
plan --json | plan tiny.yaml | plan tiny.yaml --json | "name": "tiny"
plan --debug | plan nowhere.yaml | plan nowhere.yaml --debug | Traceback
privacy curve CONFIG | privacy curve private.yaml | privacy curve nowhere.yaml | no such file
privacy curve KEY=VALUE | privacy curve private.yaml | privacy curve private.yaml rounds=4 | after 4 rounds
privacy curve --noise-multiplier | NUMBERS | NUMBERS --noise-multiplier 2 | multiplier 2
privacy curve --population | NUMBERS | NUMBERS --population 50 | of 50 clients
privacy curve --cohort | NUMBERS | NUMBERS --cohort 5 | at most every 4
privacy curve --rounds | NUMBERS | NUMBERS --rounds 3 | after 3 rounds
privacy curve --selection | NUMBERS | NUMBERS --selection uniform | every subset equally likely
privacy curve --delta | NUMBERS | NUMBERS --delta 1e-4 | delta 0\.0001
privacy curve --accountant | NUMBERS | NUMBERS --accountant rdp | Rényi divergences
privacy curve --json | NUMBERS | NUMBERS --json | "epsilon":
privacy curve --debug | privacy curve nowhere.yaml | privacy curve nowhere.yaml --debug | Traceback
privacy calibrate CONFIG | privacy calibrate private.yaml | privacy calibrate nowhere.yaml | no such file
privacy calibrate KEY=VALUE | privacy calibrate private.yaml | privacy calibrate private.yaml rounds=4 | after 4 rounds
privacy calibrate --epsilon | NEEDED | NEEDED --epsilon 2 | epsilon +2 at
privacy calibrate --population | NEEDED | NEEDED --population 50 | of 50 clients
privacy calibrate --cohort | NEEDED | NEEDED --cohort 5 | at most every 4
privacy calibrate --rounds | NEEDED | NEEDED --rounds 3 | after 3 rounds
privacy calibrate --selection | NEEDED | NEEDED --selection uniform | every subset equally likely
privacy calibrate --delta | NEEDED | NEEDED --delta 1e-4 | delta 0\.0001
privacy calibrate --accountant | NEEDED | NEEDED --accountant rdp | Rényi divergences
privacy calibrate --json | NEEDED | NEEDED --json | "epsilon":
privacy calibrate --debug | privacy calibrate nowhere.yaml | privacy calibrate nowhere.yaml --debug | Traceback
privacy audit CONFIG | privacy audit private.yaml --trials 100 | privacy audit nowhere.yaml --trials 100 | no such file
privacy audit KEY=VALUE | privacy audit private.yaml --trials 100 |
    privacy audit private.yaml privacy.delta=1e-4 --trials 100 | 0\.0001
privacy audit --trials | privacy audit private.yaml --trials 100 | privacy audit private.yaml --trials 101 | 101 times
privacy audit --json | privacy audit private.yaml --trials 100 |
    privacy audit private.yaml --trials 100 --json | "holds"
privacy audit --debug | privacy audit nowhere.yaml | privacy audit nowhere.yaml --debug | Traceback
privacy samples RUN | privacy samples guarded | privacy samples done | were not protected
privacy samples --delta | privacy samples guarded | privacy samples guarded --delta 1e-3 | delta +0\.001
privacy samples --json | privacy samples guarded | privacy samples guarded --json | "largest_epsilon":
privacy samples --debug | privacy samples done | privacy samples done --debug | Traceback
privacy invert RUN | INVERT | privacy invert nowhere --client 0 --round 1 | nowhere
privacy invert --client | INVERT | privacy invert done --client 9 --round 1 | there is no client 9
privacy invert --round | INVERT | privacy invert done --client 0 --round 9 | there is no round 9
privacy invert --method | INVERT | INVERT --method euclidean | method +euclidean
privacy invert --sees | INVERT | INVERT --sees model | sees +model
privacy invert --no-keep | INVERT | INVERT --no-keep | shows it
privacy invert --most | INVERT | INVERT --most 2 | reconstructed +2
privacy invert --picture | INVERT | INVERT --picture a.png | no images
privacy invert --json | INVERT | INVERT --json | "psnr":
privacy invert --debug | INVERT --round 9 | INVERT --round 9 --debug | Traceback
privacy membership RUN | privacy membership done | privacy membership nowhere | nowhere
privacy membership --round | privacy membership done | privacy membership done --round 1 | clients would send
privacy membership --no-keep | privacy membership done | privacy membership done --no-keep | shows it
privacy membership --json | privacy membership guarded | privacy membership guarded --json | "auc":
privacy membership --debug | privacy membership nowhere | privacy membership nowhere --debug | Traceback
privacy canaries RUN | privacy canaries guarded | privacy canaries done | no client was a canary
privacy canaries --delta | privacy canaries guarded | privacy canaries guarded --delta 1e-3 | delta +0\.001
privacy canaries --no-keep | privacy canaries guarded | privacy canaries guarded --no-keep | shows it
privacy canaries --json | privacy canaries guarded | privacy canaries guarded --json | "epsilon":
privacy canaries --debug | privacy canaries done | privacy canaries done --debug | Traceback
privacy neighbours RUN | NEIGHBOURS | privacy neighbours nowhere --client 0 | nowhere
privacy neighbours --client | NEIGHBOURS | privacy neighbours done --client 9 | there is no client 9
privacy neighbours --runs | NEIGHBOURS | NEIGHBOURS --runs 2 | runs +2
privacy neighbours --no-keep | NEIGHBOURS | NEIGHBOURS --no-keep | shows it
privacy neighbours --json | NEIGHBOURS | NEIGHBOURS --json | "advantage":
privacy neighbours --debug | NEIGHBOURS --client 9 | NEIGHBOURS --client 9 --debug | Traceback
serve RUNS | serve . --port 0 | serve nowhere --port 0 | nowhere: no such folder
serve --host | serve . --port 0 | serve . --port 0 --host 127.0.0.2 | http://127\.0\.0\.2
serve --port | serve . --port 0 | serve . --port 65536 | Invalid value for '--port'
serve --token | serve . --port 0 | serve . --port 0 --token | token=
serve --json | serve . --port 0 | serve . --port 0 --json | "url":
tune CONFIG | tune tiny.yaml OUT | tune other.yaml | runs/other-tune
tune KEY=VALUE | tune tiny.yaml OUT | tune tiny.yaml tuning.trials=2 OUT | \(2/2\)
tune --directory | tune other.yaml | tune tiny.yaml OUT | \nout/study\.yaml
tune --quiet | tune tiny.yaml OUT | tune tiny.yaml --quiet OUT | stdout:\nout\nstderr:\nexit code 0
tune --json | tune tiny.yaml OUT | tune tiny.yaml --json OUT | "event": ?"trial"
tune --debug | tune nowhere.yaml | tune nowhere.yaml --debug | Traceback
list KIND | list models | list losses | mlp
list --json | list models | list models --json | "key": "model"
schema --out | schema | schema --out schema.json | stdout:\nschema\.json
schema --output | schema | schema --output runs | "title": "raysim output of runs"
schema --json | schema | schema --json | "of": "experiment"
doctor --json | doctor | doctor --json | "findings":
doctor --address | doctor | doctor --address 127.0.0.1:1 | no Ray cluster at '127\.0\.0\.1:1'
data build CONFIG | data build tiny.yaml | data build nowhere.yaml | no such file
data build KEY=VALUE | data build tiny.yaml | data build tiny.yaml data.partition.clients=5 | 5 clients
data build --rows | data build tiny.yaml | data build tiny.yaml --rows rows.parquet | rows +\S*rows.parquet
data build --verify | data build tiny.yaml | data build tiny.yaml --verify | every file is as it was written
data build --json | data build tiny.yaml | data build tiny.yaml --json | "verified": null
data build --debug | data build nowhere.yaml | data build nowhere.yaml --debug | Traceback
data show CONFIG | data show tiny.yaml | data show other.yaml | tiny-partition\.png
data show KEY=VALUE | data show tiny.yaml | data show tiny.yaml data.partition.clients=5 | 5 clients
data show --png | data show tiny.yaml | data show tiny.yaml --png picture.png | \npicture\.png
data show --json | data show tiny.yaml | data show tiny.yaml --json | "picture": "tiny-part
data show --debug | data show nowhere.yaml | data show nowhere.yaml --debug | Traceback
data import NAME | data import mnist mnist-a | data import cifar10 mnist-a | exit code 0
data import FOLDER | data import mnist mnist-a | data import mnist cifar-a | exit code 0
data import --json | data import mnist mnist-a | data import mnist mnist-a --json | "folder":
"""

COMMANDS = COMMANDS.replace(
    "NUMBERS", "privacy curve --noise-multiplier 1 --population 20 --cohort 2 --rounds 2 --selection round_robin"
)
COMMANDS = COMMANDS.replace("INVERT", "privacy invert done --client 0 --round 1")
COMMANDS = COMMANDS.replace("NEIGHBOURS", "privacy neighbours done --client 0 --runs 3")
COMMANDS = COMMANDS.replace("NEEDED", "privacy calibrate --population 20 --cohort 2 --rounds 2 --selection round_robin")

EXCLUDED = {
    *((command, a, b) for command in ("run", "resume") for a, b in (("--quiet", "--json"), ("--quiet", "--plain"))),
    *((command, a, b) for command in ("run", "resume") for a, b in (("--json", "--plain"), ("--json", "--profile"))),
    ("tune", "--quiet", "--json"),
}
"""Flags of a command of which one is given at a time; all others go together."""
