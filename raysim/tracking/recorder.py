"""Everything that a running simulation writes and shows, behind three calls: commit, checkpoint, finish."""

from __future__ import annotations

import time
import traceback
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.compute as pc

from raysim.arrays import Float64
from raysim.config import Experiment
from raysim.errors import StorageError
from raysim.files import storing, sync_replace, temporary_for
from raysim.rounds.digests import Digesting
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking.checkpoints import CheckpointFolder
from raysim.tracking.confusion import Confusion
from raysim.tracking.directory import RunDirectory
from raysim.tracking.generated import GeneratedText, drop_later_generated, write_generated
from raysim.tracking.headline import ClientSet
from raysim.tracking.holdouts import ClientMetrics, over_clients
from raysim.tracking.last_evaluation import LastEvaluation
from raysim.tracking.log import EventLog
from raysim.tracking.observers import Failure, Fanout, NoteLevel
from raysim.tracking.report import write_report
from raysim.tracking.tables import RunTables

_NAMED_DROPS = 5


class Recorder:
    """Writes one run. Holds its lock until closed.

    Attributes:
        saved_round: the last round that is durable here; 0 for none yet, None where only another place has it.
    """

    def __init__(
        self,
        run: RunDirectory,
        experiment: Experiment,
        metrics: Sequence[str],
        observers: Fanout,
        *,
        after_round: int = 0,
    ) -> None:
        """Open a run for writing, after the round that it continues from (0: from the beginning).

        Raises:
            RunError: another process writes the run, or its tables are damaged.
            StorageError: the disk, or the place of the checkpoints, refuses.
        """
        self.run, self.experiment, self.observers = run, experiment, observers
        self._began = self._until = time.monotonic()
        self._lock = run.lock()
        try:
            kept = {name: getattr(experiment.tracking, name) for name in ("clients", "chain")}
            virtual = experiment.systems.fleet.name != "none"
            self._tables = RunTables(run, metrics, **kept, virtual=virtual, after_round=after_round)
            self._last = LastEvaluation(run, after_round, clients=experiment.tracking.clients)
            drop_later_generated(run, after_round)
            self._log = EventLog(run.log)
            self._checkpoints = CheckpointFolder(run, experiment.tracking.checkpoints)
            self._checkpoints.discard_after(after_round)
            # A run that continues from a checkpoint elsewhere has none here yet.
            self.saved_round = after_round if after_round in (0, *self._checkpoints.rounds()) else None
        except BaseException:
            self._lock.release()
            raise
        self._latest: dict[str, float] = {}
        self._spread: Mapping[str, Float64] = {}
        self._rounds, self._tokens = after_round, 0
        self._open = True
        observers.log_failures(self._log_failure)

    @property
    def seconds(self) -> float:
        """Wall-clock time of this sitting, so far."""
        return time.monotonic() - self._began

    @property
    def worked(self) -> float:
        """Wall-clock time of this sitting until its last commit or checkpoint."""
        return self._until - self._began

    def start(
        self, facts: Mapping[str, object], environment: Mapping[str, Any], server: Digesting | None = None
    ) -> None:
        """The run is about to begin its first round of this sitting, from this server."""
        self.run.write_environment(environment)
        self._tables.begin(self.experiment, environment, server)
        self._log.info("started", after_round=self._rounds, **facts)
        self.observers.start(self.experiment, facts, after_round=self._rounds)

    def note(self, text: str, level: NoteLevel = "info") -> None:
        """Write a line to the log and pass it to the observers."""
        (self._log.warning if level == "warning" else self._log.info)(text)
        self.observers.note(text, level)

    def fault(self, text: str, /, **fields: Any) -> None:
        """A fault was handled: `text` goes to the observers, the fields to the log."""
        self._log.warning("fault", **fields)
        self.observers.note(text, "warning")

    def commit(
        self,
        row: RoundRow,
        clients: pa.RecordBatch,
        measured: Mapping[ClientSet, ClientMetrics] | None = None,
        confusion: Confusion | None = None,
        server: Digesting | None = None,
    ) -> None:
        """Record a round and its cohort, and name the clients that were dropped. `tell` follows once the round counts.

        Args:
            row: the round.
            clients: its cohort.
            measured: on the clients' own sets that were evaluated; the last of each goes to disk with checkpoints.
            confusion: of classes, where the server's sets were evaluated; the last goes to disk likewise.
            server: what came of the round, for the chain.
        """
        try:
            if row.dropped:
                self._name_drops(row, clients)
            self._tables.append(row, clients, server)
        except StorageError as error:
            raise self._resumable(error) from error
        self._last.see(row.round, measured or {}, confusion)
        self._spread = over_clients(clients, measured or {}) if self.observers.sees_clients else {}
        self._latest |= row.metrics
        self._rounds = row.round
        self._tokens += row.tokens
        self._until = time.monotonic()

    def generated(self, texts: GeneratedText) -> None:
        """Record what the model after a round wrote.

        Raises:
            StorageError: the disk refuses.
        """
        try:
            write_generated(self.run, texts)
        except StorageError as error:
            raise self._resumable(error) from error

    def tell(self, row: RoundRow) -> None:
        """Tell the observers of a round that was recorded."""
        if self._spread:
            self.observers.clients(row.round, self._spread)
        self.observers.round(row)

    def checkpoint(self, round: int, fill: Callable[[Path], object], *, last: bool = False) -> None:
        """Make the rounds so far durable; `fill` writes the server after this round into the folder it is given.

        Where the disk or the store refuses, the run goes on: older checkpoints are whole, and the next one may succeed.

        Args:
            round: the last committed round.
            fill: see `CheckpointFolder.write`.
            last: there is no next one.

        Raises:
            StorageError: the last checkpoint cannot be written.
        """
        if self.saved_round == round:
            return
        try:
            self._tables.save()
            self._last.save()
            self._checkpoints.write(round, fill, keep=self.experiment.tracking.keep)
        except StorageError as error:
            if last:
                raise self._resumable(error) from error
            self._put_off(round, error)
        else:
            self.saved_round = round
            self._until = time.monotonic()

    def export(self, write: Callable[[Path], object]) -> None:
        """Make the model durable; `write` writes it under the name that it is given.

        Raises:
            StorageError: the disk refuses; there is no half-written model.
        """
        temporary = temporary_for(self.run.model)
        try:
            with storing(self.run.model):
                write(temporary)
                sync_replace(temporary, self.run.model)
        except StorageError as error:
            raise self._resumable(error) from error
        finally:
            temporary.unlink(missing_ok=True)

    def finish(self, reason: str) -> RunSummary:
        """The run ended well, or was interrupted: close everything, write the report, tell the observers.

        Raises:
            StorageError: the tables or the log cannot be written.
        """
        try:
            self._log.info("finished", reason=reason, rounds=self._rounds)
            self._last.save()
            if not self.run.config.is_file():  # it was removed, and without it nothing else can be read
                self.run.write_config(self.experiment)
            self.close()
        except StorageError as error:
            self._say_failed()
            raise self._resumable(error) from error
        finally:
            self.close()
        report = self._report() if self.experiment.tracking.report and self._rounds else None
        latest = dict(self._latest)
        summary = RunSummary(self._rounds, reason, self.worked, latest, self.run.path, report, self._tokens)
        self.observers.finish(summary)
        return summary

    def fail(self, error: BaseException) -> None:
        """The run ended by an error: what is there stays readable, even where the disk takes no further line."""
        try:
            trace = "".join(traceback.format_exception(error))
            with suppress(StorageError):
                self._log.error(
                    "failed", error=f"{type(error).__name__}: {error}", after_round=self._rounds, traceback=trace
                )
            with suppress(StorageError):
                self.close()
        finally:
            self._say_failed()

    def discard(self, reason: str = "interrupted") -> None:
        """The run ended before its first round: nothing of it stays."""
        with suppress(StorageError):  # what cannot be written is not needed
            self.close()
        self.run.discard()
        self.observers.finish(RunSummary(0, reason, self.worked))

    def _say_failed(self) -> None:
        self.observers.finish(RunSummary(self._rounds, "failed", self.worked, dict(self._latest), self.run.path))

    def close(self) -> None:
        """Close the files and release the lock. Does nothing the second time."""
        if self._open:
            self._open = False
            try:
                self._tables.close()
            finally:
                self._log.close()
                self._lock.release()

    def _log_failure(self, failure: Failure) -> None:
        """Write down that an observer was dropped; one that fails in `finish` does so after the log was closed."""
        event = {"observer": failure.observer, "call": failure.call, "error": failure.error}
        with suppress(StorageError):  # the disk may be full
            if self._open:
                self._log.warning("observer dropped", **event, traceback=failure.traceback)
            else:
                with EventLog(self.run.log) as log:
                    log.warning("observer dropped", **event, traceback=failure.traceback)

    def _put_off(self, round: int, error: StorageError) -> None:
        """Say that a checkpoint could not be written."""
        with suppress(StorageError):  # the log is perhaps on the same disk
            self._log.warning("checkpoint failed", round=round, error=str(error))
        every = self.experiment.tracking.checkpoint_every
        self.observers.note(
            f"{error}. The run goes on; older checkpoints are kept, and the next one is tried after round "
            f"{min(round + every, self.experiment.rounds)}",
            "warning",
        )

    def resumable(self, error: str) -> str:
        """The message of an error with what to do once its cause is gone."""
        if not self.saved_round:
            return f"{error}, then start the run again"
        return f"{error}, then: raysim resume {self.run.path} (it goes on after round {self.saved_round})"

    def _resumable(self, error: StorageError) -> StorageError:
        return StorageError(self.resumable(str(error)))

    def _report(self) -> Path | None:
        """The report; an error in drawing it does not fail the run."""
        try:
            return write_report([self.run.path])
        except Exception as error:
            self.observers.note(f"no report could be written ({type(error).__name__}: {error})", "warning")
            return None

    def _name_drops(self, row: RoundRow, clients: pa.RecordBatch) -> None:
        left_out = clients.filter(pc.is_valid(clients["dropped"])).to_pylist()
        for client in left_out:
            self._log.warning("client dropped", round=row.round, client=client["client"], reason=client["dropped"])
        named = ", ".join(f"client {one['client']} ({one['dropped']})" for one in left_out[:_NAMED_DROPS])
        more = f" and {len(left_out) - _NAMED_DROPS} more" if len(left_out) > _NAMED_DROPS else ""
        self.observers.note(f"round {row.round}: left out {named}{more}", "warning")
