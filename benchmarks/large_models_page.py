"""The page of `large_models.py`: what was measured, as Markdown."""

from __future__ import annotations

import math
import statistics
from collections.abc import Mapping
from typing import Any

from keeping import table

PARTS = ("spam", "lists", "ranks", "roles", "outer", "scalars")
_STUDENT = {2: 12.706, 3: 4.303, 4: 3.182, 5: 2.776}
"""97.5 % points of Student's t, by the number of seeds."""
_SPAM = {
    "spam": "10, 30, 70, 90 % spam, LoRA r=8",
    "lists": "six mailing lists, LoRA r=8",
    "fedit": "10, 30, 70, 90 % spam, ranks 2, 4, 8, 16: FedIT",
    "hlora": "the same ranks: HLoRA",
}
_ROLES = {
    "before": "pretrained, no step",
    "alone": "each role alone",
    "federated": "federated",
}


def page(known: Mapping[str, Any]) -> str:
    """Everything measured so far."""
    parts = [TITLE]
    for title, found in (
        ("## E-mail", spam(known)),
        ("## Shakespeare's roles, SmolLM2-135M", roles(known)),
        ("## Shakespeare from scratch", outer(known)),
        ("## Scalars alone", scalars(known)),
    ):
        parts += [title, "", found or "Not measured.\n"]
    return "\n".join(parts)


def spam(known: Mapping[str, Any]) -> str:
    """Accuracy of each seed on the whole test split; the mean with its interval; the gap; bytes."""
    rows = []
    for name, what in _SPAM.items():
        runs = {key.rpartition(" ")[2]: one for key, one in known.items() if key.startswith(f"{name}; seed")}
        if not runs:
            continue
        last = [list(one["accuracy"].values())[-1] for one in runs.values()]
        each = ", ".join(f"{value:.4f} ({seed})" for value, seed in zip(last, runs, strict=True))
        gaps = [statistics.fmean(one["gap"]) for one in runs.values() if one["gap"]]
        gap = f"{statistics.fmean(gaps):.3f}" if gaps else ""
        one = list(runs.values())[-1]
        moved = f"{one['up']:,} / {one['down']:,}"
        rows.append([what, each, interval(last), gap, moved, f"{one['seconds']}"])
    head = ["mailboxes, adapters", "test accuracy (seed)", "mean", "`lora/gap`", "bytes up / down", "CPU s of a seed"]
    return table(head, rows) if rows else ""


def interval(values: list[float]) -> str:
    """The mean, and its 95 % interval by Student's t."""
    middle, n = statistics.fmean(values), len(values)
    if n not in _STUDENT:
        return f"{middle:.4f}"
    return f"{middle:.4f} ± {_STUDENT[n] * statistics.stdev(values) / math.sqrt(n):.4f}"


def roles(known: Mapping[str, Any]) -> str:
    """Perplexity and accuracy on the roles' own held-out text, and on roles that none is trained on."""
    rows = []
    for way, what in _ROLES.items():
        if (found := known.get(f"roles; {way}")) is None:
            continue
        names = ("clients/perplexity/mean", "clients/accuracy/mean", "test/perplexity", "test/accuracy")
        values = [found["metrics"].get(name) for name in names]
        shown = ["" if one is None else f"{one:.3f}" for one in values]
        rows.append([what, *shown, f"{found['up']:,}", f"{found['seconds']}"])
    head = ["", "perplexity on held-out text of the roles, mean", "accuracy", "perplexity on other plays' roles"]
    return table([*head, "accuracy", "bytes up", "CPU s"], rows) if rows else ""


def outer(known: Mapping[str, Any]) -> str:
    """Accuracy and perplexity of each round, by algorithm; the trials of FedAdam's rate."""
    runs = {name: known[f"outer; {name}"] for name in ("fedavg", "fedadam", "diloco") if f"outer; {name}" in known}
    rounds = max((len(one["test/accuracy"]) for one in runs.values()), default=0)
    rows = [
        [
            str(number + 1),
            *(f"{one['test/accuracy'][number]:.3f} / {one['test/perplexity'][number]:.2f}" for one in runs.values()),
        ]
        for number in range(rounds)
    ]
    trials = {key: one for key, one in known.items() if key.startswith("outer; trial")}
    tried = "; ".join(
        f"{key.rpartition(' ')[2]}: {one['validation/perplexity'][-1]:.2f}" for key, one in trials.items()
    )
    if not rows:
        return ""
    rate = f"\nFedAdam's rates, and the validation perplexity after their trial with another seed: {tried}.\n"
    return table(["round", *(f"`{one['algorithm']}`" for one in runs.values())], rows) + rate


def scalars(known: Mapping[str, Any]) -> str:
    """Bytes of a message, and whether the model is made again."""
    rows = []
    for name, what in (("gpt", "the GPT of `llm/fedkseed`"), ("smollm2", "SmolLM2-135M")):
        if (found := known.get(f"scalars; {name}")) is None:
            continue
        same = "the same" if found["sha256"] == found["rebuilt"] else "ANOTHER"
        whole = f"{4 * found['parameters']:,}"
        moved = f"{found['up']:,} / {found['down']:,}"
        rows.append(
            [what, whole, moved, found["sha256"][:16], f"{found['rebuilt'][:16]}: {same}", f"{found['seconds']}"]
        )
    head = ["", "bytes of the model", "bytes up / down", "SHA-256 of the model", "made again from scalars", "CPU s"]
    return table(head, rows) if rows else ""


TITLE = """\
# Large models

`RAYSIM_DATA=… OMP_NUM_THREADS=1 python benchmarks/large_models.py spam` and the like; its first lines have all commands
and settings. Bytes are those of a message of a client in a round.
"""
