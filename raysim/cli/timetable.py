"""What `raysim plan` shows of virtual time: how long steps take, how busy devices are, and who is left out."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from raysim.execution.preparation.prepare import Prepared
    from raysim.systems import Forecast

PLANNED = 2_000
"""Steps that are planned to be shown, at most."""
_NAMED = 5


def timetable_facts(prepared: Prepared) -> list[tuple[str, str]]:
    """The forecast for people."""
    found = forecast_of(prepared)
    if found is None:
        return []
    from raysim.execution.preparation.timetable import timetable_text

    assert prepared.timetable is not None
    lines = [f"{timetable_text(prepared.experiment, prepared.timetable)}", found.sentence]
    if prepared.selection.adaptive:
        lines[-1] += " in the first one; whom selection chooses for later ones depends on losses"
        return _titled(lines)
    whole = "all" if found.steps == prepared.last_round else f"the first {found.steps:,}"
    lines.append(f"{whole} steps take {_time(found.seconds)} of virtual time and {_bytes(found.bytes)} of messages")
    if found.versions:
        kept = _bytes(4 * prepared.columns * found.versions)
        lines.append(f"up to {found.versions:,} older versions of the model are kept for those in flight, {kept}")
    if found.joules or found.money:
        lines.append(f"{found.joules:,.4g} J, {found.money:,.4g} of money")
    lines.append(_left_out(found))
    return _titled(lines)


def _titled(lines: list[str]) -> list[tuple[str, str]]:
    return [("timetable" if not place else "", line) for place, line in enumerate(lines)]


def forecast_of(prepared: Prepared) -> Forecast | None:
    """The first steps in numbers; None where there are no devices."""
    if prepared.timetable is None:
        return None
    from raysim.execution.preparation.timetable import share_in_time
    from raysim.systems import forecast

    steps = 1 if prepared.selection.adaptive else min(prepared.last_round, PLANNED)
    return forecast(prepared.timetable, steps, share_in_time(prepared.timetable))


def _left_out(found: Forecast) -> str:
    drawn = found.trips + found.late
    text = f"{found.late:,} of {drawn:,} drawn are late, gone or dropped" if found.late else "no client is left out"
    if not found.left_out:
        return text
    named = ", ".join(str(one) for one in found.left_out[:_NAMED])
    more = f" and {len(found.left_out) - _NAMED:,} more" if len(found.left_out) > _NAMED else ""
    return f"{text}; never in time: client {named}{more}"


def _time(seconds: float) -> str:
    from raysim.tracking.units import duration

    return duration(seconds)


def _bytes(count: int) -> str:
    from raysim.tracking.units import size

    return size(count)
