"""How fast is a round? raysim beside bare torch, pfl-research, BlazeFL and Flower, on the same work.

    RAYSIM_DATA=… python benchmarks/speed.py                    # all workloads, all sides, three repetitions
    python benchmarks/speed.py A B --sides raysim,pfl           # some of them
    python benchmarks/speed.py C --sides raysim,raysim:sequential,raysim:rows-inprocess,torch1
    python benchmarks/speed.py --rounds 2 --repeat 1 --results /tmp/trial    # does it run?

Workloads: A, Ae (with evaluation), B, C, D compare the sides; E (growth of the cohort) and F (big updates) are raysim
alone. The sides take turns, each run in a process of its own; the figures are medians over the repetitions. Every side
trains the same clients with the same model: samples, batches and steps of every round are compared, and a difference is
an error. raysim is timed over more rounds where they are short (`Workload.more`); ratios in the tables are therefore of
the time a batch takes, and accuracies say what round they are of. Processor time counts every process that a
side started. Start-up, until the first round, is apart.

A peer's virtual environment is made on first use below `--cache`. Where a peer has several set-ups, a short trial finds
its fastest. Every finished run is kept in `benchmarks/results/speed-WORKLOAD.json`, so that an interrupted script goes
on where it was; the tables are written to `benchmarks/results/speed.md`.
"""

from __future__ import annotations

import argparse
import os
import shlex
import sys
from dataclasses import asdict, replace
from functools import partial
from pathlib import Path
from typing import Any

from peers import big_update, growth
from peers.book import Book, OtherSetting, cores
from peers.environments import NotInstallable, interpreter
from peers.launch import Case, launch
from peers.outcomes import WorkMismatch, check_work, table, work_of_a_round
from peers.side import Task
from peers.workloads import ROUNDS_DRAWN, WORKLOADS, Workload, prepare

ALONE = {"E": growth, "F": big_update}
SIDES = ("raysim", "raysim1", "torch1", "torch2", "pfl", "blazefl", "flower")
TITLES = {"E": "Growth: softmax 60→10, cohorts of 1,000,000 virtual clients", "F": "Big updates: one local step"}


def main() -> None:
    """Run what was asked for, and write the tables of all that is known."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("workloads", nargs="*", metavar="WORKLOAD", help=f"of {', '.join([*WORKLOADS, *ALONE])}; all")
    parser.add_argument("--sides", default=",".join(SIDES), help="SIDE or SIDE:SET-UP, comma-separated; %(default)s")
    parser.add_argument("--engine", default="auto", help="raysim's training.engine, where a side does not say another")
    parser.add_argument("--repeat", type=int, default=3, help="repetitions (%(default)s)")
    parser.add_argument("--rounds", type=int, help="timed rounds, instead of the workload's own")
    parser.add_argument("--cases", help="of E and F: only these, such as 10,100 or '25M on 2'")
    parser.add_argument("--fresh", action="store_true", help="forget the runs that are there")
    parser.add_argument("--timeout", type=float, default=3600, help="seconds until a run is stopped (%(default)s)")
    parser.add_argument("--results", type=Path, default=Path(__file__).parent / "results")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "raysim-bench"
    parser.add_argument("--cache", type=Path, default=cache, help="environments and data (%(default)s)")
    given = parser.parse_args()
    given.cache = given.cache.resolve()  # a side runs in a folder of its own
    names = given.workloads or [*WORKLOADS, *ALONE]
    unknown = [name for name in names if name not in WORKLOADS and name not in ALONE]
    if unknown:
        parser.error(f"no workload {unknown[0]!r}; there are {', '.join([*WORKLOADS, *ALONE])}")
    sides = given.sides.split(",")
    wrong = [side for side in sides if side.split(":")[0] not in SIDES]
    if wrong:
        parser.error(f"no side {wrong[0]!r}; there are {', '.join(SIDES)}")
    if given.rounds is not None and not 1 <= given.rounds <= ROUNDS_DRAWN // 2:
        parser.error(f"--rounds is 1 to {ROUNDS_DRAWN // 2}")
    mismatches = []
    for name in names:
        try:
            compare(name, sides, given) if name in WORKLOADS else grow(name, given)
        except WorkMismatch as mismatch:
            mismatches.append(f"{name}: {mismatch}")
        except OtherSetting as other:
            raise SystemExit(str(other)) from None
        report(given.results)
    print((given.results / "speed.md").read_text())
    if mismatches:
        raise SystemExit("the sides did not do the same work; " + "; ".join(mismatches))


def compare(name: str, sides: list[str], given: argparse.Namespace) -> None:
    """Run a workload on the sides in turn.

    Raises:
        WorkMismatch: the sides did not train the same.
    """
    workload = WORKLOADS[name]
    folder, source = prepare(workload, given.cache)
    rounds = given.rounds or workload.rounds
    setting = {"workload": asdict(workload), "data": source, "rounds": rounds, "warmup": workload.warmup}
    book = Book(given.results / f"speed-{name}.json", setting, fresh=given.fresh)
    task = Task(workload, str(folder), rounds, workload.warmup, "", cores())
    cases = []
    for label in sides:
        case = partial(Case, label, label.split(":")[0], _module(label))
        variants = _variants(label, given.engine, workload)
        if len(variants) > 1:
            short = replace(task, rounds=max(1, rounds // 3), warmup=1)
            trials = [case(replace(short, variant=variant)) for variant in variants]
            cases.append(case(replace(task, variant=_fastest(book, trials, given))))
        else:
            longer = rounds * workload.more if label.startswith("raysim") else rounds
            cases.append(case(replace(task, variant=variants[0], rounds=longer)))
    _run(book, cases, given)
    # What was not asked for now may be there from before: it is in the table, so it is checked too.
    check_work(book.values["runs"])


def grow(name: str, given: argparse.Namespace) -> None:
    """Run a workload that has no other side than raysim."""
    module = ALONE[name]
    labels = [str(cohort) for cohort in growth.ROUNDS] if name == "E" else list(big_update.CASES)
    cases = []
    for label in labels:
        workload = growth.workload(int(label)) if name == "E" else big_update.workload(label)
        rounds = given.rounds or workload.rounds
        task = Task(workload, "", rounds, workload.warmup, f"{given.engine}-ray", cores())
        cases.append(Case(label, "raysim", module.__name__, task, watch=name == "F"))
    setting = {"workloads": {case.label: [asdict(case.task.workload), case.task.rounds] for case in cases}}
    book = Book(given.results / f"speed-{name}.json", setting, fresh=given.fresh)
    if given.cases:
        cases = [case for case in cases if case.label in given.cases.split(",")]
    _run(book, cases, given)


def report(results: Path) -> None:
    """Write the tables of every results file."""
    lines = ["# Seconds per round", "", "Written by `benchmarks/speed.py`, which says what is measured and how.", ""]
    for name in [*WORKLOADS, *ALONE]:
        path = results / f"speed-{name}.json"
        if not path.exists():
            continue
        values = Book.read(path)
        runs, machine = values["runs"], values["machine"]
        title = WORKLOADS[name].title if name in WORKLOADS else TITLES[name]
        lines += [f"## {name}. {title}", ""]
        if name in WORKLOADS:
            setting = values["setting"]
            lines += [f"{setting['data']}; {work_of_a_round(runs)}, over {setting['rounds']} rounds.", ""]
        lines += [(ALONE[name].table if name in ALONE else table)(runs)]
        if name == "E":
            growth.plot(runs, results / "speed-E.png")
            lines += ["![growth of the cohort](speed-E.png)", ""]
        loads = [run["load"] for several in runs.values() for run in several if "load" in run]
        lines += [
            f"{values['date']}, `{values['command']}`, {machine['cpu']}, {machine['cores']} cores, "
            f"{machine['memory_gib']} GiB, {machine['system']}, {_versions(runs)}; "
            f"load before a run {min(loads, default=0):.1f} to {max(loads, default=0):.1f}.",
            "",
        ]
    (results / "speed.md").write_text("\n".join(lines))


def _run(book: Book, cases: list[Case], given: argparse.Namespace) -> None:
    """The cases in turn, as often as asked for; what is there already is not run again."""
    book.values["command"] = shlex.join(["python", "benchmarks/speed.py", *sys.argv[1:]])
    for repetition in range(given.repeat):
        for case in cases:
            if not book.finished(case.label, case.task.variant, repetition):
                book.add(case.label, repetition, _once(case, given))


def _once(case: Case, given: argparse.Namespace) -> dict[str, Any]:
    try:
        python = interpreter(case.side, given.cache)
    except NotInstallable as reason:
        return {"error": f"not installable: {reason}"}
    result = launch(case, python, given.cache, given.timeout)
    figure = result.get("error") or f"{1e3 * result['seconds_per_round']:.1f} ms a round"
    print(f"{case.label} {case.task.variant}: {figure}", file=sys.stderr, flush=True)
    return result


def _fastest(book: Book, trials: list[Case], given: argparse.Namespace) -> str:
    """The variant that was fastest in a short trial, which is kept; the first if none ran."""
    known: dict[str, float | str] = book.values["calibration"].setdefault(trials[0].label, {})
    for trial in trials:
        if not isinstance(known.get(trial.task.variant), float):
            result = _once(trial, given)
            known[trial.task.variant] = result.get("error") or float(result["seconds_per_round"])
            book.save()
    timed = {variant: seconds for variant, seconds in known.items() if isinstance(seconds, float)}
    return min(timed, key=lambda variant: timed[variant]) if timed else trials[0].task.variant


def _module(label: str) -> str:
    side = label.split(":")[0].rstrip("12")
    return f"peers.{'torch_loop' if side == 'torch' else side}"


def _variants(label: str, engine: str, workload: Workload) -> list[str]:
    """Set-ups of a side to choose from; one if it was named or is the only one."""
    side, _, chosen = label.partition(":")
    count = cores()
    if side.startswith("raysim"):
        asked, _, executor = (chosen or engine).partition("-")
        return [f"{asked}-{executor or ('inprocess' if side == 'raysim1' else 'ray')}"]
    if chosen:
        return [chosen]
    known = {
        "torch1": ["1"],
        "torch2": ["2"],
        "pfl": ["1x1", f"1x{count}", f"{count}x1", *([f"{count}x1-balanced"] if workload.unequal else [])],
        "blazefl": [f"threads-{count}", f"processes-{count}", "single-1", f"single-{count}"],
        "flower": ["1"],
    }
    return list(dict.fromkeys(known[side]))


def _versions(runs: dict[str, list[dict[str, Any]]]) -> str:
    done = [run["versions"] for several in runs.values() for run in several if "error" not in run]
    return ", ".join(sorted({f"{name} {versions[name]}" for versions in done for name in ("python", "torch")}))


if __name__ == "__main__":
    main()
