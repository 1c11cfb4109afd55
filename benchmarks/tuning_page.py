"""The page of what tuning is worth: tables, and a picture of learned weights."""

from __future__ import annotations

import statistics
from pathlib import Path
from typing import Any

import numpy as np


def report(known: dict[str, Any], picture_file: Path) -> str:
    """The tables as Markdown, and the picture of learned weights."""
    lines = ["# Tuning where the right answer is known", "", "Written by `python benchmarks/tuning.py`."]
    lines += ["60 % of the labels of 30 % of the clients are wrong; no study knows whose.", ""]
    for part in ("weights", "law"):
        if part in known:
            lines += gains(part, known[part])
    if "learned" in known:
        lines += learned_table(known["learned"])
        picture(known["learned"], picture_file)
    if "pruning" in known:
        lines += ["## Pruning", "", "| pruner | best value | local steps | pruned |", "|---|---|---|---|"]
        for name, one in known["pruning"].items():
            lines.append(f"| {name} | {one['best']:.4f} | {one['steps']:,} | {one['pruned']} of {one['trials']} |")
        lines.append("")
    if "parallel" in known:
        lines += ["## Trials at once on Ray", "", "| at once | trials a minute, each turn |", "|---|---|"]
        for name, one in known["parallel"]["trials_per_minute"].items():
            lines.append(f"| {name} | {', '.join(f'{value:.1f}' for value in one)} |")
        lines.append("")
    return "\n".join(lines)


def gains(part: str, one: dict[str, Any]) -> list[str]:
    """A study's confirmation as a table."""
    title = "Weights of ten clients, digits" if part == "weights" else "The law, MNIST, fifty clients"
    accuracy = one["accuracy"]
    lines = [f"## {title}", "", f"{one['trials']} trials, {one['pruned']} pruned, {one['steps']:,} local steps.", ""]
    lines += ["| on the test set, five fresh seeds | by samples | winner | difference | 95 % interval |"]
    lines += ["|---|---|---|---|---|"]
    rows = [
        (one["metric"], one["baseline"], one["winner"], one["difference"], one["interval"]),
        (
            "test/accuracy",
            accuracy["baseline"],
            accuracy["winner"],
            one["accuracy_difference"],
            one["accuracy_interval"],
        ),
    ]
    for metric, base, won, difference, (low, high) in rows:
        means = f"{statistics.mean(base):.4f} | {statistics.mean(won):.4f}"
        lines.append(f"| {metric} | {means} | {difference:+.4f} | {low:+.4f} to {high:+.4f} |")
    lines.append("")
    if part == "weights":
        shown = ", ".join(
            f"**{w:.3f}**" if client in one["bad"] else f"{w:.3f}" for client, w in enumerate(one["weights"])
        )
        lines += [f"Weights (bad clients bold, {one['bad_total']:.3f} together, 0.300 by samples): {shown}.", ""]
    else:
        lines += ["Found: " + ", ".join(f"`{key}` {value:.3g}" for key, value in one["params"].items()) + ".", ""]
    return lines


def learned_table(known: dict[str, Any]) -> list[str]:
    """Accuracy and loss by round, and what a round takes."""
    rounds = len(known["samples"]["accuracy"][0])
    shown = sorted({1, 2, 3, 5, 10, rounds} & set(range(1, rounds + 1)))
    lines = ["## Weights learned within a run, digits, five seeds", ""]
    head = ["test accuracy after round", *map(str, shown), "last test loss", "bad clients' share", "CPU ms a round"]
    lines += [f"| {' | '.join(head)} |"]
    lines += ["|---" * (len(shown) + 4) + "|"]
    for way, one in known.items():
        mean = np.mean(one["accuracy"], axis=0)
        cells = " | ".join(f"{mean[number - 1]:.4f}" for number in shown)
        loss, bad = np.mean([run[-1] for run in one["loss"]]), np.mean(one["bad"])
        lines.append(f"| {way} | {cells} | {loss:.4f} | {bad:.3f} | {1e3 * statistics.median(one['cpu']):.0f} |")
    return [*lines, "", "![accuracy over rounds](tuning.png)", ""]


def picture(known: dict[str, Any], file: Path) -> None:
    """Mean test loss and accuracy over the rounds."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.4), dpi=150, layout="constrained")
    for ax, name in zip(figure.subplots(1, 2), ("accuracy", "loss"), strict=True):
        for way, color in (("samples", "#0072b2"), ("learned", "#d55e00"), ("oracle", "#009e73")):
            runs = np.array(known[way][name])
            x = np.arange(1, runs.shape[1] + 1)
            ax.plot(x, runs.mean(axis=0), color=color, label=way)
            ax.fill_between(x, runs.min(axis=0), runs.max(axis=0), color=color, alpha=0.15, linewidth=0)
        ax.set_title(f"test {name}", loc="left", fontsize=10, fontweight="bold")
        ax.set_xlabel("round")
        ax.spines[["top", "right"]].set_visible(False)
        if name == "loss":
            ax.set_yscale("log")
            ax.legend(frameon=False)
        else:
            ax.set_ylim(0.85, None)
    figure.savefig(file)
