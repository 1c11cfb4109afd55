"""A hundred hostile configurations, each with the start of the one line that it gets, or None where it is accepted.

Run as a script by `test_hostile_configurations.py`, in one process with little memory and processor time for them all:
prints what did not come out as the table says.
"""

from __future__ import annotations

import os
import resource
import sys
from pathlib import Path

ALIASES = "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
DEEP = 100_000
YAML = "not valid YAML ("

CASES: list[tuple[str, str | None]] = [
    # What YAML itself can do.
    ("name: 2001-99-99", f":1: {YAML}'2001-99-99' looks like a date"),
    ("name: 2001-12-14t21:59:43.10-05:00", f":1: {YAML}'2001-12-14t21:59:43.10-05:00' looks like a date"),
    ("rounds: 1\nseed: !!int abc", f":2: {YAML}'abc' is no whole number"),
    ("rounds: " + "9" * 6000, f":1: {YAML}a number of 6,000 characters"),
    ("rounds: " + "9" * 10**6, f":1: {YAML}a number of 1,000,000 characters"),
    ("rounds: 0b" + "1" * 99, f":1: {YAML}a number of 101 characters"),
    ("rounds: 0b" + "1" * 98, ": rounds: input should be less than or equal to 1000000000"),
    ("rounds: 190:20:30:15:59:1:2", ": rounds: input should be less than or equal to 1000000000"),
    ("name: " + "[" * DEEP, f":1: {YAML}more than 50 lists"),
    ("name: " + "{a: " * DEEP, f":1: {YAML}more than 50 lists"),
    ("\n".join(" " * i + "a:" for i in range(2000)), f":50: {YAML}more than 50 lists"),
    ("- " * DEEP, f":1: {YAML}more than 50 lists"),
    ("a0: &a0 [x, x, x, x, x, x, x, x, x, x]\n" + ALIASES, f":6: {YAML}more than 1,000,000 values"),
    ("x: &a [*a]", f":1: {YAML}alias *a is inside"),
    ("x: &a {b: {c: *a}}", f":1: {YAML}alias *a is inside"),
    ("model: {name: 'a:b', args: &a {x: *a}}", f":1: {YAML}alias *a is inside"),
    ("x: *no", f":1: {YAML}found undefined alias 'no'"),
    ("seed: &a 1\nrounds: &a 2", f":2: {YAML}anchor &a is given twice"),
    ("seed: &a 1\nrounds: *a", None),
    ("<<: {rounds: 3}\nseed: 1", None),
    ("<<: {ronds: 3}", ": unknown key 'ronds'; did you mean 'rounds'?"),
    ("<<: [1]", f":1: {YAML}expected a mapping for merging"),
    ("<<: x", f":1: {YAML}expected a mapping or list of mappings"),
    ("client: {<<: {epochs: 0}}", ": client.epochs: input should be greater than or equal to 1"),
    ("rounds: 1\nseed: 1\nrounds: 2", f":3: {YAML}key 'rounds' is given twice, first on line 1"),
    ("client: {epochs: 1,\n  epochs: 2}", f":2: {YAML}key 'epochs' is given twice, first on line 1"),
    ("on: 1", f":1: {YAML}a key must be a word, and 'on' is read as True"),
    ("null: 1", f":1: {YAML}a key must be a word, and 'null' is read as None"),
    ("[a]: 1", f":1: {YAML}a key must be a word"),
    ("{a: 1}: 1", f":1: {YAML}a key must be a word"),
    ("? [" * 1000, f":1: {YAML}"),
    (".nan: 1", f":1: {YAML}a key must be a word, and '.nan' is read as nan"),
    ("seed: !!python/object/apply:os.system [id]", f":1: {YAML}tag '!!python/object/apply:os.system' is not read"),
    ("seed: !!python/name:os.system ''", f":1: {YAML}tag '!!python/name:os.system' is not read"),
    ("seed: !!set {1}", f":1: {YAML}tag '!!set' is not read"),
    ("seed: !!binary /w==", f":1: {YAML}tag '!!binary' is not read"),
    ("seed: !!bool 2", f":1: {YAML}'2' is no true or false"),
    ("seed: !!float x", f":1: {YAML}'x' is no number"),
    ("seed: !!map [1]", f":1: {YAML}expected a mapping node, but found sequence"),
    ("name: !!str [a]", f":1: {YAML}expected a scalar node, but found sequence"),
    ("name: !<x> a", f":1: {YAML}tag 'x' is not read"),
    ("name: \x00", f":1: {YAML}character 0x00 is not allowed"),
    ("rounds: 1\nname: \x1b[2J", f":2: {YAML}character 0x1b is not allowed"),
    ("name: \ufffe", f":1: {YAML}character 0xfffe is not allowed"),
    ("a: 1\n---\nb: 2", f":2: {YAML}"),
    ("---\n...\n---\n...", f":3: {YAML}"),
    ("%YAML 2.0\n---\n{}", f":1: {YAML}found incompatible YAML document"),
    ("%TAG ! tag:x,2000:\n---\nname: !y z", f":3: {YAML}tag 'tag:x,2000:y' is not read"),
    ("name: 'open", f":1: {YAML}"),
    ("name: \"\\q\"", f":1: {YAML}found unknown escape character 'q'"),
    ("name: @x", f":1: {YAML}found character '@'"),
    ("\tname: x", f":1: {YAML}"),
    ("name: a: b", f":1: {YAML}mapping values are not allowed here"),
    ("a\n" * 50_000, ": expected a mapping of sections, got str"),
    ("'a': 1\n" * 2, f":2: {YAML}key 'a' is given twice"),
    ("x" * 3_000_000, ": expected a mapping of sections, got str"),
    ("# " + "x" * 5_000_000, ": larger than 4 MiB"),
    ("\ufeffrounds: 3", None),
    ("rounds: 3\r\nseed: 2\r\n", None),
    ("- 1", ": expected a mapping of sections, got list"),
    ("", None),
    ("~", None),
    # Values.
    ("rounds: .inf", ": rounds: input should be a finite number, got inf"),
    ("rounds: .nan", ": rounds: input should be a finite number, got nan"),
    ("rounds: 1e400", ": rounds: input should be a finite number, got inf"),
    ("rounds: 1.0e+30", ": rounds: "),
    ("rounds: true", ": rounds: expected a number, got True"),
    ("rounds: [1]", ": rounds: input should be a valid integer"),
    ("rounds: 1.5", ": rounds: input should be a valid integer, got a number with a fractional part"),
    ("rounds: ''", ": rounds: input should be a valid integer"),
    ("rounds: -0.0", ": rounds: input should be greater than or equal to 1"),
    ("seed: -1", ": seed: input should be greater than or equal to 0"),
    ("seed: 9223372036854775808", ": seed: input should be less than or equal to 9223372036854775807"),
    ("cohort: true", ": cohort: expected a whole number of at least 1"),
    ("cohort: 1e-320", None),
    ("cohort: 99999999999999999999", ": cohort: expected a whole number of at least 1 and at most 1e+09"),
    ("client: {batch_size: 1000000000000000000000}", ": client.batch_size: expected a whole number"),
    ("client: {optimizer: {lr: 1e39}}", ": client.optimizer.lr: input should be less than or equal to 1e+38"),
    ("client: {optimizer: {lr: -1e-320}}", ": client.optimizer.lr: input should be greater than or equal to 0"),
    ("client: {optimizer: {name: [sgd]}}", ": client.optimizer: "),
    ("client: {optimizer: {name: null}}", ": client.optimizer: "),
    ("client: {optimizer: 3}", ": client.optimizer: expected a name, or a section"),
    ("model: {name: mlp, hidden: [100000000, 100000000]}", ": model.hidden[0]: input should be less than or equal"),
    (f"model: {{name: mlp, hidden: [{'1, ' * 5000}]}}", ": model.hidden: tuple should have at most 1000 items"),
    ("model: {name: lstm_char, layers: 1000000000}", ": model.layers: input should be less than or equal to 100"),
    ("data: {source: {name: synthetic, clients: 10000000000000}}", ": data.source.clients: input should be less"),
    ("data: {seed: -9223372036854775809}", ": data.seed: input should be greater than or equal to"),
    ("data: {partition: {name: dirichlet, alpha: 0.0}}", ": data.partition.alpha: input should be greater than 0"),
    ("execution: {threads_per_client: 1000000000}", ": execution.threads_per_client: input should be less than"),
    ("execution: {num_gpus: 1e30}", ": execution.num_gpus: input should be less than or equal to 1024"),
    ("execution: {wait_for_nodes: 1000000000000}", ": execution.wait_for_nodes: input should be less than"),
    ("execution: {classes: {'a b': {clients: [1]}}}", ": execution.classes"),
    ("execution: {classes: {a: {clients: ['0-99999999999']}}}", ": execution.classes"),
    ("evaluation: {metrics: [top99999999999]}", ": evaluation.metrics[0]: unknown name"),
    ("algorithm: {name: qfedavg, q: 1e38}", ": algorithm: (high / low) ** q must be at most 1e9"),
    ("algorithm: {name: scaffold, option: true}", ": algorithm.option: expected a number, got True"),
    ("aggregation: {weights: {name: explicit, table: {1e3: 1}}}", f":1: {YAML}a key must be a word"),
    ("aggregation: {weights: {name: explicit, table: {99999999999: 1}}}", ": aggregation.weights.table"),
    ("model: {name: 'a:b', args: {x: .inf}}", ": model.args: a number is not within"),
    ("model: {name: 'a:b', args: {1: 2}}", ": model.args"),
    (f"name: {'n' * 5000}", ": name: "),
    (f"{'k' * 5000}: 1", f":1: {YAML}mapping values are not allowed here"),
    ("'a\\nb': 1", ": unknown key 'a"),
    ("'\\e[31m': 1", ": unknown key"),
    ("tuning: {storage: 'postgresql://u:p@h/d'}", ": tuning.storage: the URL holds a password"),
    ("tuning: {space: {'': {low: 1, high: 2}}}", None),
    ("tuning: {space: {a: {low: 1, high: 1e400}}}", ": tuning.space.a.high: "),
    ("tuning: {trials: 100000000000}", ": tuning.trials: input should be less than or equal to 1000000"),
]  # fmt: skip


def outcome(path: Path) -> str | None:
    """The message that a configuration gets; None where it is accepted."""
    from raysim import Experiment
    from raysim.errors import RaysimError

    try:
        experiment = Experiment.from_yaml(path)
    except RaysimError as error:
        return str(error)
    assert Experiment.parse(experiment.to_dict()) == experiment
    return None


def main(folder: Path) -> None:
    """Print every case that did not come out as the table says."""
    import raysim.config  # noqa: F401 - its memory is not the cases' affair

    used = resource.getrusage(resource.RUSAGE_SELF)
    spent = int(used.ru_utime + used.ru_stime) + 1
    resource.setrlimit(resource.RLIMIT_CPU, (spent + 60, spent + 60))
    pages = int(Path("/proc/self/statm").read_text().split()[0]) * os.sysconf("SC_PAGE_SIZE")
    resource.setrlimit(resource.RLIMIT_AS, (pages + (400 << 20), pages + (400 << 20)))
    for number, (text, expected) in enumerate(CASES):
        path = folder / "c.yaml"
        path.write_text(text, encoding="utf-8", newline="")
        try:
            found = outcome(path)
        except BaseException as error:
            found = f"{type(error).__name__}: {error}"
        whole = None if expected is None else f"{path}{expected}"
        if (found is None) != (whole is None) or (found is not None and not found.startswith(str(whole))):
            print(f"case {number}, {text[:60]!r}: {found and found[:200]!r}, expected {whole!r}")
        elif found is not None and not all(line.isprintable() and len(line) < 2200 for line in found.split("\n")):
            print(f"case {number}, {text[:60]!r}: is no line that can be read")
    print(f"{len(CASES)} cases")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
