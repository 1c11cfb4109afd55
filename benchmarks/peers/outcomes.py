"""From runs to results: was the same work done, how do the sides compare, and what the table says."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from typing import Any

from peers.side import LAST

Run = Mapping[str, Any]
"""What a side measured in one repetition, or `{"error": …}`."""

REFERENCE = "raysim"
"""The side that the others are compared with."""


ENGINE = ("engine", "rows", "precision", "compile")
"""The keys of raysim's `training` section that say what computes."""


class WorkMismatch(Exception):
    """Two sides did not do the same work: their times say nothing."""


def set_up(run: Run) -> str:
    """How a side was set up, in words."""
    named = [f"{name} {value}" for name, value in run["versions"].items() if name not in ("python", "torch")]
    versions = ", ".join(named)
    # What `auto` came to.
    chosen = [f"{key} {value}" for key, value in run.get("engine", {}).items() if key in ENGINE]
    return "; ".join(filter(None, (run["variant"], ", ".join(chosen), versions)))


def check_work(runs: Mapping[str, Sequence[Run]]) -> None:
    """All runs must have trained the same, round by round, with models of the same size and the same torch.

    raysim, where it comes first, may have trained more rounds than the others (see `Workload.more`).

    Raises:
        WorkMismatch: names the side, what differs and where.
    """
    done = [(side, run) for side, several in runs.items() for run in several if "error" not in run]
    if not done:
        return
    first_side, first = done[0]
    for side, run in done[1:]:
        if run["parameters"] != first["parameters"]:
            raise WorkMismatch(f"{side} trained {run['parameters']:,} parameters, {first_side} {first['parameters']:,}")
        if (torch := _torch(run)) != _torch(first):
            raise WorkMismatch(f"{side} ran torch {torch}, {first_side} {_torch(first)}")
        rounds, expected = len(run["work"]), len(first["work"])
        if rounds > expected if first_side.startswith(REFERENCE) else rounds != expected:
            raise WorkMismatch(f"{side} ran {rounds} rounds, {first_side} {expected}")
        for number, (mine, theirs) in enumerate(zip(run["work"], first["work"], strict=False), 1):
            if list(mine) != list(theirs):
                raise WorkMismatch(f"round {number}: {side} trained {_work(mine)}, {first_side} {_work(theirs)}")


def median(runs: Sequence[Run], key: str) -> float | None:
    """Median of a figure over the runs that did not fail; None if all did."""
    values = [run[key] for run in runs if "error" not in run and run[key] is not None]
    return statistics.median(values) if values else None


def table(runs: Mapping[str, Sequence[Run]]) -> str:
    """Markdown: a row for each side, medians over its repetitions, and how often the reference fits into it.

    Sides may be timed over different rounds, whose clients differ in size: ratios are of the time a batch takes, and
    the test accuracy is that of the last round that all of them ran, or says which round it is of.
    """
    lines = [
        "| side | set-up | rounds | ms a round | µs a batch | CPU ms a round | start-up s | time / raysim's "
        "| CPU / raysim's | test accuracy | repetitions: ms a round |",
        "|---|---|---|---|---|---|---|---|---|---|---|",
    ]
    common = min((len(run["work"]) for several in runs.values() for run in several if "error" not in run), default=0)
    first = next((side for side in runs if side.startswith(REFERENCE)), REFERENCE)
    reference = runs.get(REFERENCE) or runs.get(first, ())
    for side, several in runs.items():
        done = [run for run in several if "error" not in run]
        if not done:
            reason = several[0]["error"] if several else "not run"
            lines.append(f"| {side} | {reason} | | | | | | | | | |")
            continue
        cells = [
            side,
            set_up(done[0]),
            str(done[0]["rounds"]),
            _figure(median(done, "seconds_per_round"), 1e3),
            _figure(_a_batch(done, "seconds_per_round"), 1e6),
            _figure(median(done, "cpu_seconds_per_round"), 1e3),
            _figure(median(done, "startup_seconds")),
            _ratio(done, reference, "seconds_per_round"),
            _ratio(done, reference, "cpu_seconds_per_round"),
            _accuracy(done, common),
            ", ".join(_figure(run["seconds_per_round"], 1e3) for run in done),
        ]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def work_of_a_round(runs: Mapping[str, Sequence[Run]]) -> str:
    """What every side did in a timed round, in the mean, as words."""
    every = [run for several in runs.values() for run in several if "error" not in run]
    done = min(every, key=lambda run: len(run["work"]), default=None)
    if done is None:
        return "nothing was run"
    timed = done["work"][-done["rounds"] :]
    samples, batches, steps = (f"{statistics.fmean(part):,.0f}" for part in zip(*timed, strict=True))
    return f"{samples} samples, {batches} batches, {steps} steps a round, {done['parameters']:,} parameters"


def _ratio(runs: Sequence[Run], reference: Sequence[Run], key: str) -> str:
    mine, theirs = _a_batch(runs, key), _a_batch(reference, key)
    return "" if mine is None or not theirs else f"{mine / theirs:.2f}"


def _a_batch(runs: Sequence[Run], key: str) -> float | None:
    """Median of a figure a round, over the batches of a round in the mean of those that were timed."""
    figures = [
        run[key] * run["rounds"] / sum(batches for _, batches, _ in run["work"][-run["rounds"] :])
        for run in runs
        if "error" not in run
    ]
    return statistics.median(figures) if figures else None


def _accuracy(runs: Sequence[Run], common: int) -> str:
    """Test accuracy after the round `common`, where it is known; else with the round that it is of."""
    later = {len(run["work"]) for run in runs} - {common}
    by_round = [run.get("accuracy_by_round") or [] for run in runs]
    if all(len(accuracies) >= common for accuracies in by_round):
        return f"{statistics.median(statistics.fmean(one[:common][-LAST:]) for one in by_round):.2%}"
    final = median(runs, "accuracy")
    return "" if final is None else f"{final:.2%}" + (f" after {max(later)} rounds" if later else "")


def _figure(value: float | None, scale: float = 1.0) -> str:
    return "" if value is None else f"{value * scale:.3g}" if value * scale < 100 else f"{value * scale:,.0f}"


def _torch(run: Run) -> str:
    return str(run["versions"]["torch"]).partition("+")[0]


def _work(work: Sequence[int]) -> str:
    samples, batches, steps = work
    return f"{samples} samples in {batches} batches and {steps} steps"
