"""What a round costs on one worker, and cut over all of them: learnt from finished rounds, to choose the cheaper.

A choice changes how long a round takes, never its result.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Container
from dataclasses import dataclass, field
from statistics import median

import pyarrow as pa

from raysim.arrays import Int64
from raysim.config import Experiment
from raysim.execution.scheduling.schedule import CostModel
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.rounds.ranges import passes
from raysim.rounds.results import RoundFacts
from raysim.rounds.task import RoundWork
from raysim.selection import is_adaptive

SHARING = 8e-3
"""Seconds that sharing a round costs beyond the arithmetic, until a run has measured its own: calls and answers.

An empty round on two actors took 4 ms with 10,000 parameters and 13 ms with 200,000 on two idle cores; where other work
kept the cores busy, `benchmarks/sharing.py` found medians of 18 and 36 ms. The median of a run's own rounds takes its
place from the first interval between two of them on (`RoundCosts.overhead`)."""

BATCH_SECONDS = 0.25
"""Work of one call with several rounds: long beside what a call costs, short beside what an interrupt may lose."""

BATCH_ROUNDS = 64
"""Rounds of one call."""

HISTORY_BYTES = 16 * 1024 * 1024
"""What one call may leave in the object store: state and model after each of its rounds."""

_STATE_AND_MODEL = 20
"""Bytes for each column of a float32 model and a server state of two float64 vectors."""

_WARM_UP = 5
"""Intervals between shared rounds after which the measured costs are believed: the first ones are those of actors that
do everything for the first time, and must be outvoted in the median."""

_WORTH_A_TRIAL = 2.0
"""How much longer a round may be predicted to take on one worker, for that to be tried once. Workers that share cores
are slower than one that has them for itself, so before the trial the prediction is too high."""

SWITCH = 0.01
"""Seconds that it costs to leave off calls with several rounds for one that had better be shared, and to come back."""

AHEAD = 3 * BATCH_ROUNDS
"""Rounds that are worked on ahead if the configuration leaves it open: two calls, and one that is being committed."""


def rounds_ahead(experiment: Experiment) -> int:
    """Rounds that may be worked on before those in front of them are finished; none where cohorts depend on those."""
    if is_adaptive(experiment):
        return 0
    ahead = experiment.execution.rounds_ahead
    return AHEAD if ahead == "auto" else ahead


@dataclass(slots=True)
class RoundCosts:
    """Seconds of rounds, predicted for works.

    Attributes:
        workers: that a round can be cut over.
        clients: cost of clients by their steps, where several workers train at the same time.
        lone: the same, where one worker trains them all.
        evaluation: seconds of a forward pass of an evaluation, that is of a range, or of a token of a text.
        step: seconds of the server's step.
        beside: whether another worker can evaluate whole rounds beside the one that trains them.
    """

    workers: int
    clients: CostModel = field(default_factory=CostModel)
    lone: CostModel | None = None
    evaluation: float = 1e-3
    step: float = 3e-4
    beside: bool = False
    _overheads: deque[float] = field(default_factory=lambda: deque(maxlen=5))

    @property
    def overhead(self) -> float:
        """Seconds that sharing a round takes beyond what is predicted of it. Fewer than none where rounds overlap, or
        where a client costs less among others than what steps alone say."""
        return median(self._overheads) if self._overheads else SHARING

    @property
    def measured(self) -> bool:
        """Whether enough rounds were shared to compare."""
        return len(self._overheads) >= _WARM_UP

    def alone(self, work: RoundWork) -> float:
        """Seconds of a whole round on one worker."""
        own = work.ranges[: self.own_ranges(work)]
        other = self.evaluation * (passes(work.ranges) - passes(own))
        return max(self._trained(work) + self.evaluation * passes(own), other)

    def own_ranges(self, work: RoundWork) -> int:
        """How many of a round's ranges, from the first, the worker that trains the round evaluates: all of them; or,
        where another worker evaluates the rest at the same time, as many as make both finish at about the same time."""
        count = len(work.ranges) * (not self.beside)
        own = self._trained(work) + self.evaluation * passes(work.ranges[:count])
        other = self.evaluation * passes(work.ranges[count:])
        while count < len(work.ranges) and own < other:
            passed = self.evaluation * passes(work.ranges[count : count + 1])
            if own + passed > other:
                break
            own, other, count = own + passed, other - passed, count + 1
        return count

    def _trained(self, work: RoundWork) -> float:
        """Seconds of clients and server's step on one worker."""
        return float((self.lone or self.clients).seconds(work.task.steps).sum()) + self.step

    def shared(self, work: RoundWork) -> float:
        """Seconds of a round that is cut over the workers, if they get equal shares."""
        return max(0.0, self._shared(work.task.steps, passes(work.ranges)) + self.overhead)

    def _shared(self, steps: Int64, ranges: int) -> float:
        """What clients, evaluation ranges and the server's step come to, cut over the workers."""
        cost = self.clients.seconds(steps)
        longest = max(float(cost.max(initial=0.0)), float(cost.sum()) / self.workers)
        return longest + self.evaluation * ranges / self.workers + self.step

    def small(self, work: RoundWork, *, among_small: bool = False) -> bool:
        """Whether one worker is predicted to be done with it before several would be, or that is worth a trial.

        Args:
            among_small: the rounds before it went to one worker, so that sharing this one must pay for the switch.
        """
        allowed = 1.0 if self.lone is not None else _WORTH_A_TRIAL
        shared = allowed * self.shared(work) + (SWITCH if among_small else 0.0)
        return self.alone(work) <= min(shared, BATCH_SECONDS)

    def cut(self, upcoming: Upcoming, columns: int, refused: Container[int] = ()) -> list[RoundWork]:
        """Take the small rounds of one call, none where the next round is not small; no further than one that is kept.

        Args:
            columns: of the model; what a call leaves behind is bounded.
            refused: rounds that are to be shared, however small.
        """
        most = max(1, min(BATCH_ROUNDS, HISTORY_BYTES // (_STATE_AND_MODEL * columns)))
        works: list[RoundWork] = []
        seconds = 0.0
        while len(works) < most and (work := upcoming.peek()) is not None:
            if work.task.round in refused or not self.small(work, among_small=True):
                break
            seconds += self.alone(work)
            if works and seconds > BATCH_SECONDS:
                break
            works.append(upcoming.take())
            if work.kept:
                break
        return works

    def saw_shared(self, clients: pa.RecordBatch, ranges: int, interval: float | None) -> None:
        """Learn from a round that was cut over the workers.

        Args:
            clients: the round's clients (`CLIENT_SCHEMA`).
            ranges: that were evaluated, by their `passes`.
            interval: seconds since the shared round before was finished; None after anything else.
        """
        steps = clients["steps"].to_numpy()
        self.clients.observe(steps, clients["seconds"].to_numpy())
        if interval is not None:
            self._overheads.append(interval - self._shared(steps, ranges))

    def saw_alone(self, facts: RoundFacts, ranges: int) -> None:
        """Learn from a whole round on one worker."""
        self.lone = self.lone or CostModel()
        self.lone.observe(facts.clients["steps"].to_numpy(), facts.clients["seconds"].to_numpy())
        seconds = facts.row.seconds
        if facts.row.cohort:
            self.saw_step(seconds["reduce"] + seconds["apply"])
        self.saw_evaluation(ranges, seconds.get("evaluate", 0.0))

    def saw_step(self, seconds: float) -> None:
        """Learn from a server's step."""
        self.step = 0.8 * self.step + 0.2 * seconds

    def saw_evaluation(self, ranges: int, seconds: float) -> None:
        """Learn from ranges that one worker, or several one after the other, evaluated."""
        if ranges:
            self.evaluation = 0.8 * self.evaluation + 0.2 * seconds / ranges
