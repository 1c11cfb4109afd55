"""What attacks on runs found: how well members are told, beside epsilon, and samples beside what was made of them."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from math import exp
from typing import Any

import numpy as np
from matplotlib.figure import Figure

from raysim.tracking.evidence import Evidence
from raysim.tracking.report.markup import Content, Html, element, section, table
from raysim.tracking.report.privacy import PREFIX
from raysim.tracking.report.reconstructed import reconstructed
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme
from raysim.tracking.units import figure

_WHAT = {
    "membership": "which samples were trained on",
    "participation": "which clients took part in a round",
    "neighbours": "whether a client took part",
    "canaries": "what the model kept of canaries",
}
_PROTECTS = {"membership": "samples", "participation": "clients", "neighbours": "clients"}
"""Whose presence an attack tells: an epsilon that protects them bounds its advantage."""


def attacks(runs: Sequence[RecordedRun], place: Callable[[Iterable[Picture]], Html]) -> Html:
    """The section; nothing where no attack was recorded."""
    named = len(runs) > 1
    measured = [(run, one) for run in runs for one in run.evidence if one.kind != "inversion"]
    inverted = [(run, one) for run in runs for one in run.evidence if one.kind == "inversion"]
    parts: list[Content] = []
    if measured:
        head: list[Content] = ["told apart", *(["run"] if named else []), "the attacker had", "AUC (95 %)", "advantage",
                               "ε at least", "ε accounted for", "largest advantage at this ε"]  # fmt: skip
        rows = [[_WHAT[one.kind], *([run.label] if named else []), one.saw, *_numbers(run, one)]
                for run, one in measured]  # fmt: skip
        parts.append(table(head, rows, text_columns=3 if named else 2))
    if inverted:
        parts.append(place(_picture(run, one, named=named) for run, one in inverted if one.images))
        head = ["reconstructed from", *(["run"] if named else []), "by", "samples", "error", "without protection",
                "constant guess"]  # fmt: skip
        rows = [[one.saw, *([run.label] if named else []), str(one.facts.get("method", "–")), *_errors(one)]
                for run, one in inverted]  # fmt: skip
        parts.append(table(head, rows, text_columns=3 if named else 2))
        text = "Errors are mean squared errors of a value; the constant guess is the mean of the client's own samples."
        parts.append(element("p", text, kind="faint"))
    return section("Attacks", *parts)


def _numbers(run: RecordedRun, found: Evidence) -> list[Content]:
    facts = found.facts
    auc = "–"
    if _known(facts, "auc"):
        auc = figure(facts["auc"])
        if _known(facts, "auc_low") and _known(facts, "auc_high"):
            auc += f" ({figure(facts['auc_low'])} to {figure(facts['auc_high'])})"
    shown = facts.get("low") if found.kind == "canaries" else facts.get("epsilon_at_least")
    epsilon, whose = _epsilon(run, facts.get("round"))
    bound = "–"
    if epsilon is not None and whose == _PROTECTS.get(found.kind):
        delta = float(run.environment["privacy"]["delta"])
        bound = figure(min(1.0, 1.0 if epsilon > 700 else (exp(epsilon) - 1 + 2 * delta) / (exp(epsilon) + 1)))
    accounted = "none: no noise" if whose is None else "no epsilon" if epsilon is None else f"{epsilon:.4g} ({whose})"
    return [auc, figure(facts.get("advantage")), f"{shown:.3g}" if _number(shown) else "–", accounted, bound]


def _epsilon(run: RecordedRun, round: Any) -> tuple[float | None, str | None]:
    """What the run was accounted for with after a round, by default its last, and of what; None and None where it had
    no noise."""
    facts = run.environment.get("privacy")
    if not isinstance(facts, dict):
        return None, None
    name = next((one for one in run.metrics if one.startswith(PREFIX)), None)
    if name is None:
        return None, str(facts.get("protects", ""))
    rounds, values = run.curve(name)
    until = values[rounds <= round] if _number(round) else values
    return (float(until[-1]) if len(until) else None), str(facts.get("protects", "clients"))


def _errors(found: Evidence) -> list[Content]:
    facts = found.facts
    numbers = [facts.get(name) for name in ("mean_error", "unprotected_error", "guess_error")]
    return [str(facts.get("reconstructed", "–")), *(f"{one:.3g}" if _number(one) else "–" for one in numbers)]


def _picture(run: RecordedRun, found: Evidence, *, named: bool) -> Picture:
    facts = found.facts
    psnr = np.array([one if _number(one) else np.nan for one in facts.get("psnr") or []], dtype=np.float64)
    psnr = (
        np.resize(psnr, len(found.images["original"])) if len(psnr) else np.full(len(found.images["original"]), np.nan)
    )
    where = f"{run.label}: " if named else ""
    epsilon, whose = _epsilon(run, facts.get("round"))
    promised = "" if epsilon is None else f" The run has spent an epsilon of {epsilon:.4g} for its {whose} by then."
    note = f"The attacker had {found.saw}.{promised}"
    client, round, method = (facts.get(key, "?") for key in ("client", "round", "method"))
    title = f"{where or 'Samples of '}client {client} in round {round}, by {method}"

    def draw(theme: Theme) -> Figure:
        return reconstructed(theme, title, found.images, psnr)

    name = f"{run.label.replace('/', '-')}-{found.name}" if named else found.name
    return Picture(f"attack-{name}", f"{where}samples of a client above what {found.saw} gives away", draw, note)


def _known(facts: Any, name: str) -> bool:
    return _number(facts.get(name))


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)
