"""The rounds of a timetable: for each step what it takes in, and who starts from the version of the model before it;
and those of a selection that looks at results."""

from __future__ import annotations

from collections import deque
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, fields, replace
from types import MappingProxyType
from typing import Any

import numpy as np

from raysim.config import Experiment
from raysim.data import Federation
from raysim.rounds.plan import Plan, Timetable
from raysim.rounds.task import RoundTask, RoundWork
from raysim.selection.base import Measure, Selection, State
from raysim.selection.cohort import draw_planned, draw_round, without
from raysim.selection.oort import Oort
from raysim.training import LocalWork, round_rates


@dataclass(frozen=True, slots=True)
class PlannedRound:
    """A round of a timetable: its step's plan, and the work of it without what is evaluated."""

    plan: Plan
    work: RoundWork


def planned_rounds(
    timetable: Timetable,
    experiment: Experiment,
    federation: Federation,
    work: LocalWork,
    *,
    after: int = 0,
    left_out: Mapping[int, Collection[int]] = MappingProxyType({}),
) -> Iterator[PlannedRound]:
    """The rounds after one, without end.

    Who starts from a version is known once all steps are planned that may take in some of them: those up to
    `timetable.cap` steps after the next one. No later step needs the version.

    Args:
        left_out: clients that steps go without, by the number of the step.
    """

    def draw(plan: Plan) -> RoundTask:
        return without(draw_planned(experiment, federation, work, plan), left_out.get(plan.step, ()))

    plans = timetable.plans(after)
    if not timetable.cap:
        yield from (PlannedRound(plan, RoundWork(draw(plan))) for plan in plans)
        return
    ahead: deque[tuple[Plan, RoundTask]] = deque()
    starting: dict[int, list[RoundTask]] = {}
    flying: dict[int, RoundTask] = {}
    while True:
        while len(ahead) <= timetable.cap:
            plan = next(plans)
            ahead.append((plan, task := draw(plan)))
            for base in np.unique(task.base).tolist():
                starting.setdefault(base, []).append(task.only(task.base == base))
        plan, task = ahead.popleft()
        last = plan.step - 1
        for base in sorted(version for version in starting if version <= last):
            flying[base] = _together(starting.pop(base), base + 1, round_rates(experiment, work, base + 1)[0])
        flying = {base: some for base, some in flying.items() if some.into.max() >= plan.step}
        older = tuple(some for base, some in flying.items() if base < last)
        needed = frozenset(base for base, some in flying.items() if some.into.max() > plan.step)
        yield PlannedRound(plan, RoundWork(task, (), False, flying.get(last, task.only(slice(0))), older, needed))


def selected_round(
    selection: Selection,
    state: State,
    measure: Measure,
    number: int,
    experiment: Experiment,
    federation: Federation,
    work: LocalWork,
) -> RoundTask:
    """The round of a cohort that a selection chooses after the round before it.

    Args:
        state: of the selection, after that round.
        measure: see `Selection.cohort`.
    """
    if isinstance(selection, Oort) and selection.timetable is not None:
        return draw_planned(experiment, federation, work, selection.step(number, state).plan)
    return draw_round(experiment, federation, work, number, selection.cohort(number, state, measure))


def _together(parts: Sequence[RoundTask], number: int, lr: float) -> RoundTask:
    """Those who start from one version, whatever steps take them in."""
    joined: dict[str, Any] = {
        name: np.concatenate([getattr(part, name) for part in parts])
        for name in (one.name for one in fields(RoundTask))
        if isinstance(getattr(parts[0], name), np.ndarray)
    }
    return replace(parts[0], round=number, lr=lr, **joined)
