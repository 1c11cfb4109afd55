"""Rounds that are cut over all actors, one after the other, the next one's training beside the server's step."""

from __future__ import annotations

import time
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, replace
from functools import partial

import pyarrow as pa

from raysim.cluster.faults import FaultBook
from raysim.cluster.flights import Evaluation
from raysim.cluster.leasing import Leasing
from raysim.cluster.pool import ClientPool
from raysim.cluster.reduction import Traffic
from raysim.cluster.states import KeptAfter, NodeStates
from raysim.cluster.steps import ServerSteps, StepCall, StepLost
from raysim.cluster.training import Training
from raysim.errors import RunError
from raysim.execution.scheduling.round_costs import RoundCosts
from raysim.execution.scheduling.upcoming import Upcoming
from raysim.rounds.facts import after_step, cohort_facts, empty_batch, empty_row, round_row
from raysim.rounds.messages import Messages
from raysim.rounds.ranges import passes
from raysim.rounds.results import Applied, RoundDone, RoundFacts, ServerHandle, Trained
from raysim.rounds.rows import RoundRow
from raysim.rounds.task import RoundWork
from raysim.user_code import naming


@dataclass(frozen=True, slots=True)
class _Applying:
    """A round whose clients are done, while the server takes its step.

    Attributes:
        before: the server that it was trained from.
        trainings: flights that have some of what its step takes in; none for an empty cohort.
        row: without what the step takes.
        step: None where there is none.
    """

    work: RoundWork
    before: ServerHandle
    trainings: tuple[Training, ...]
    row: RoundRow
    clients: pa.RecordBatch
    server: ServerHandle
    step: StepCall | None


class SharedRounds:
    """Rounds over a pool of actors.

    While the server takes its step, the next round's leases are given out already, and wait for its model; the
    evaluation goes behind them, where it fills the time of actors that are done early. Should the step be lost with the
    node that had some of its sums, their leases are trained again, and the next round's given out once more.

    Where steps take in clients who start from several versions, everybody who starts from a version is given out when
    the version is there, or about to be. Workers that train one client at a time begin with those whom the next step
    takes in, and are not waited for because of the others.
    """

    def __init__(
        self,
        pool: ClientPool,
        leasing: Leasing,
        steps: ServerSteps,
        costs: RoundCosts,
        book: FaultBook,
        *,
        down: int,
        wire_down: int = 0,
        every_round: bool = False,
        asynchronous: bool = False,
        states: NodeStates | None = None,
        personal: bool = False,
        messages: Messages | None = None,
        mixes: bool = False,
        in_rows: bool = False,
    ) -> None:
        """Rounds over a pool.

        Args:
            down: bytes of what travels to a worker.
            wire_down: bytes of what a federation would send to a client.
            every_round: whether the server takes a step in rounds without clients, too.
            asynchronous: whether a step that is left without clients keeps the model, and the run goes on.
            states: what clients keep from round to round, where they keep something.
            personal: whether they keep models that are evaluated.
            messages: of the rule's protocol, where it has one.
            in_rows: whether a worker trains several clients at once, so that leases had better be large.
            mixes: whether steps mix the model with the one of a client.
        """
        self._pool, self._leasing, self._steps = pool, leasing, steps
        self._costs, self._book, self._down = costs, book, down
        self._states, self._personal, self._messages = states, personal, messages
        self._wire_down, self._every_round = wire_down, every_round
        self._empty = every_round or asynchronous
        self._mixes, self._in_rows = mixes, in_rows
        self._finished_at: float | None = None
        self._ahead: list[Training] = []
        self._flying: list[Training] = []

    def rounds(
        self, upcoming: Upcoming, server: ServerHandle, small: Callable[[RoundWork], bool]
    ) -> Generator[RoundDone]:
        """Finished rounds from this server on, until one is small.

        Raises:
            ClientError: a client's own code failed.
            RunError: a round cannot be trained or applied.
        """
        self._finished_at = None
        self._flying, begins = [], True
        applying: _Applying | None = None
        while True:
            # One worker is not done early; what clients keep is final only when its round is committed; and of a round
            # whose protocol fails, those before it are handed over first.
            alone = self._pool.size == 1 or self._states is not None or self._messages is not None
            if applying is not None and alone:
                done = self._finish(applying)
                applying, server = None, done.server
                yield done
                upcoming.finished()
            work = upcoming.peek()
            if work is not None and small(work):
                work = None
            if work is None and applying is None:
                return
            if work is not None:
                upcoming.take()
                if self._messages is not None:
                    work = replace(work, task=self._messages.begin(work.task))
                self._ahead, begins = self._train(work, server, begins=begins), False
            if applying is not None:
                done = self._finish(applying)
                if done.server is not server and work is not None:  # the step was taken once more
                    self._ahead = self._train(work, done.server, begins=False)
                applying, server = None, done.server
                yield done
                upcoming.finished()
            if work is not None:
                self._ahead = []
                applying = self._apply(work, server)
                server = applying.server

    def _train(self, work: RoundWork, server: ServerHandle, *, begins: bool) -> list[Training]:
        """Give out the leases of those who start with a round."""
        number, given = work.task.round, (server.shared, self._kept(server.version))
        trainings: list[Training] = []
        for task in work.starts(begins=begins):
            now = task.into == number
            parts = [task] if self._in_rows or now.all() else [task.only(some) for some in (now, ~now) if some.any()]
            trainings += [self._pool.train(part, server.of(work, task), *given) for part in parts]
        self._flying += trainings
        self._costs.workers = self._pool.size
        return trainings

    def _kept(self, version: int) -> KeptAfter | None:
        """What clients keep, as it is after a round."""
        return None if self._states is None else KeptAfter(self._states, version)

    def _apply(self, work: RoundWork, server: ServerHandle) -> _Applying:
        """Wait for those whom the step takes in, and ask for the step."""
        number, older = work.task.round, server.kept(work)
        trainings = tuple(one for one in self._flying if (one.task.into == number).any())
        if not trainings and not self._every_round:
            same = replace(server, older=older) if older or server.older else server
            return _Applying(work, server, (), empty_row(work.task), empty_batch(), same, None)
        for training in trainings:
            self._pool.wait(training, until=partial(training.there, number))
        trained = _trained(trainings, number)
        facts = cohort_facts(work.task, trained, empty=self._empty, wire_down=self._wire_down)
        opening = None if self._messages is None else self._messages.end(work.task, facts.contributed)
        begun = server.begun(work) if self._mixes else None
        step = self._steps.ask(number, facts.contributed, server, trained.sums, opening, begun)
        after = replace(step.server, older=older) if older else step.server
        if self._states is not None:
            self._states.write(number, [written for one in trainings for written in one.written(number)])
        row = round_row(work.task, facts, trained, Applied(step.server, 0.0, 0.0), self._down)
        return _Applying(work, server, trainings, row, facts.clients, after, step)

    def _finish(self, applying: _Applying) -> RoundDone:
        """Evaluate the round, once its step is taken."""
        work, losses = applying.work, 0
        while True:
            after, evaluation = applying.server, None
            if work.ranges:
                own = (self._kept(after.version), after.shared) if self._personal else (None, None)
                evaluation = self._pool.evaluate(work.task.round, work.ranges, after.model, *own)
            seconds = dict(applying.row.seconds)
            row, clients = applying.row, applying.clients
            try:
                if (step := applying.step) is not None:
                    taken, traffic = self._steps.wait(step)
                    applying = replace(applying, row=self._with_links(applying, traffic))
                    self._step_taken(applying, evaluation)
                    self._costs.saw_step(taken.check + taken.apply)
                    seconds |= {"reduce": time.perf_counter() - step.began - taken.apply, "apply": taken.apply}
                    row, clients = after_step(applying.row, applying.clients, taken)
                break
            except StepLost as error:
                losses += 1
                if evaluation is not None:
                    self._pool.abandon(evaluation)
                applying = self._again(applying, losses, error)
        if evaluation is not None:
            with naming(f"round {work.task.round}"):
                self._pool.wait(evaluation)
            self._costs.saw_evaluation(passes(work.ranges), evaluation.seconds)
            seconds["evaluate"] = evaluation.wall
        before, self._finished_at = self._finished_at, time.perf_counter()
        interval = None if before is None else self._finished_at - before
        self._costs.saw_shared(applying.clients, passes(work.ranges), interval)
        self._leasing.learn(applying.clients)
        moved = 0 if self._states is None else self._states.moved()
        row = self._book.counted(replace(row, seconds=seconds, transport_state_across=moved))
        evaluated = () if evaluation is None else tuple(evaluation.results)
        return RoundDone(RoundFacts(row, clients, evaluated), applying.server)

    def _with_links(self, applying: _Applying, traffic: Traffic) -> RoundRow:
        """The row, with the bytes that moved within and between nodes."""
        number = applying.work.task.round
        nodes = [one.node for training in applying.trainings for one in training.sums(number)]
        down = self._steps.broadcast(nodes)
        return replace(
            applying.row,
            transport_up_within=traffic.within,
            transport_up_across=traffic.across,
            transport_down_across=down,
        )

    def _step_taken(self, applying: _Applying, evaluation: Evaluation | None) -> None:
        """Release the round's sums, which are not needed any more, and note that its model is there."""
        number = applying.work.task.round
        for training in applying.trainings:
            training.settle(number)
        self._flying = [one for one in self._flying if (one.task.into > number).any()]
        for waiting in (*self._ahead, *([] if evaluation is None else [evaluation])):
            waiting.started()

    def _again(self, applying: _Applying, losses: int, error: StepLost) -> _Applying:
        """Train what was lost again, and ask for the step once more."""
        for ahead in self._ahead:  # it waits for a model that will never be
            self._pool.abandon(ahead)
        self._flying = [one for one in self._flying if one not in self._ahead]
        self._ahead = []
        number = applying.work.task.round
        if self._book.policy("died") == "fail" or losses > self._book.max_retries:
            raise RunError(
                f"round {applying.work.task.round}: the server's step was lost {losses} times, the last time because "
                f"{error}; resume the run on healthy nodes"
            ) from error
        gone = self._steps.lost([one for training in applying.trainings for one in training.sums(number)])
        for training in applying.trainings:
            training.lose(gone)
            self._pool.depart(training)
        return self._apply(applying.work, applying.before)


def _trained(trainings: Sequence[Training], into: int) -> Trained:
    """What several flights have for a step. Of flights that have some for later steps, no time is that of waiting."""
    reports = [report for one in trainings for report in one.reports(into)]
    sums = [total for one in trainings for total in one.sums(into)]
    workers = {worker for one in trainings for worker in one.workers}
    wall = trainings[0].wall if len(trainings) == 1 else 0.0
    return Trained(tuple(sums), tuple(reports), max(1, len(workers)), wall, len(sums))
