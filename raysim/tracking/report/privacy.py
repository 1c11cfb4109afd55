"""What a run with noise promises its clients: epsilon over the rounds, of what, for whom, and what is assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from matplotlib.figure import Figure

from raysim.tracking.report.markup import Content, Html, element, join, section, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.report.style import Picture, Theme, axes, color, whole_numbers

PREFIX = "privacy/"
_ACCOUNTANTS = {
    "pld": "privacy loss distributions, or exact where samples do not amplify",
    "rdp": "Rényi divergences",
    "legacy": "Rényi divergences, converted as papers did until 2020",
}


def privacy(run: RecordedRun, place: Callable[[Iterable[Picture]], Html]) -> Html:
    """The section; nothing where no noise was added."""
    facts = run.environment.get("privacy")
    if not isinstance(facts, dict):
        return Html("")
    assumptions = element("ul", join(element("li", str(one)) for one in facts.get("assumptions") or []))
    if facts.get("epsilon") is None:
        return section("Privacy", element("p", f"No epsilon: {facts.get('why')}.", kind="lead"), assumptions)
    parts: list[Content] = []
    name = next((one for one in run.metrics if one.startswith(PREFIX)), None)
    if facts.get("hypothetical_cohort"):
        text = (
            f"Hypothetical: epsilon is that of cohorts of {facts['hypothetical_cohort']:,} clients, for which noise is "
        )
        parts.append(element("p", f"{text}scaled. This run had fewer and is less private.", kind="lead"))
    numbers = table([], _rows(run, facts, name), text_columns=2)
    drawn = place([_curve(run, name)]) if name else Html("")
    parts.append(element("div", join([drawn, numbers]), kind="side"))
    return section("Privacy", *parts, assumptions)


def _rows(run: RecordedRun, facts: dict[str, Any], name: str | None) -> list[list[Content]]:
    reached = f"{run.curve(name).values[-1]:.4g} after round {run.rounds}" if name else "–"
    rows: list[list[Content]] = [
        ["epsilon", reached],
        ["delta", f"{facts['delta']:.3g}"],
        ["neighbours", str(facts["neighbours"])],
        ["noise", "; ".join(facts["noise"])],
        ["cohorts" if facts["protects"] == "clients" else "batches", facts["sampling"]["text"]],
        ["accountant", _ACCOUNTANTS.get(facts["accountant"], facts["accountant"])],
    ]
    if facts.get("budget") is not None:
        rows.append(["budget", f"{facts['budget']:g}, which allows {facts['rounds']} rounds"])
    if facts.get("zcdp") is not None:
        rows.append(["zCDP", f"{facts['zcdp']:.4g} after round {facts['rounds']}"])
    if facts.get("amplified") and facts.get("without_amplification") is not None:
        flower = f" ({facts['flower']:.4g} by Flower's accountant)" if facts.get("flower") is not None else ""
        rows.append(["epsilon if samples did not amplify", f"{facts['without_amplification']:.4g}{flower}"])
    return rows


def _curve(run: RecordedRun, name: str) -> Picture:
    facts = run.environment["privacy"]

    def draw(theme: Theme) -> Figure:
        title = "Hypothetical epsilon" if "hypothetical" in name else "Epsilon"
        picture, ax = axes(theme, f"{title} at delta {facts['delta']:.2g}", "round")
        rounds, values = run.curve(name)
        ax.plot(rounds, values, color=color(theme, 0), linewidth=1.8, marker="o" if len(rounds) == 1 else "")
        if facts.get("budget") is not None:
            ax.axhline(facts["budget"], color=theme.faint, linewidth=1, linestyle=":")
        ax.set_ylim(bottom=0)
        whole_numbers(ax)
        return picture

    return Picture("privacy-epsilon", "Epsilon over the rounds", draw)
