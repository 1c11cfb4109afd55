"""How a run ends, once: what is made durable, what is recorded, and when nothing of it stays."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

from raysim.errors import LostError, RaysimError, StorageError
from raysim.round_loop import RoundLoop
from raysim.rounds.executor import Executor
from raysim.rounds.rows import RunSummary
from raysim.tracking import Recorder


class Closing:
    """The end of an open run, whose workers it releases.

    Attributes:
        summary: of a run that was finished; None before, and where an error ended it.
        closed: whether the run has ended, in whatever way.
    """

    def __init__(self, executor: Executor, recorder: Recorder, loop: RoundLoop) -> None:
        self._executor, self._recorder, self._loop = executor, recorder, loop
        self.summary: RunSummary | None = None
        self.closed = False

    def finish(self, reason: str) -> None:
        """Make everything durable and release the workers. Does nothing the second time.

        Args:
            reason: why the run is over; `interrupted` is saved at once.

        Raises:
            StorageError: the last checkpoint, or the model, cannot be written.
        """
        if self.closed:
            return
        if reason == "interrupted" and not self._loop.number:
            self._discard()
            return
        try:
            if reason == "interrupted":  # at once: saving may have to wait for what the workers are doing
                with suppress(StorageError):  # a full disk takes no note, but perhaps the checkpoint
                    said = f"interrupted; saving round {self._loop.number} (a second one stops at once)"
                    self._recorder.note(said, "warning")
            self._loop.close()
            if reason != "interrupted":  # a run that a rule stops has no last round before it is there
                self._loop.write()
            self._loop.checkpoint(last=True)
            self._recorder.export(lambda path: self._executor.export(str(path.resolve()), self._loop.server))
        except BaseException as error:
            self.abandon(error, rescue=False)  # saving is what was tried
            raise
        self.closed = True
        with _beside(self._executor.close):  # while workers end, the report is written
            self.summary = self._recorder.finish(reason)

    def abandon(self, error: BaseException, *, rescue: bool = True) -> None:
        """End the run with an error. Does nothing the second time.

        Without a round there is nothing to resume: the directory stays only where `raysim debug` can show the error.

        Args:
            rescue: make the last committed round durable, where that can still be done.
        """
        if self.closed:
            return
        where = self._recorder.run.path
        can_debug = isinstance(error, RaysimError) and None not in (error.client, error.round)
        if isinstance(error, RaysimError) and can_debug:
            again = f"raysim debug {where} --client {error.client} --round {error.round}"
            error.add_note(f"to see it in this process: {again}")
        self.closed = True
        if isinstance(error, LostError):
            rescue, error.args = False, (self._recorder.resumable(str(error)),)
        try:
            if rescue and self._loop.number and self._loop.number != self._recorder.saved_round:
                self._rescue()
            if rescue and self._recorder.saved_round:
                with suppress(Exception):  # what ended the run is what is told
                    again = f"`raysim resume {where}` goes on after it"
                    self._recorder.note(f"round {self._recorder.saved_round} is saved; {again}")
            if self._loop.number or can_debug:
                self._recorder.fail(error)
            else:
                self._recorder.discard("failed")
        finally:
            self._executor.close()

    def _discard(self) -> None:
        """Leave nothing of a run without a round: its model is untrained, and there is nothing to resume."""
        self.closed = True
        try:
            self._executor.close()
        finally:
            self._recorder.discard()

    def _rescue(self) -> None:
        with suppress(Exception):  # what ended the run is what is told, not what it may have broken besides
            self._loop.close()
            self._loop.checkpoint(last=True)


@contextmanager
def _beside(call: Callable[[], None]) -> Iterator[None]:
    """Make a call in a thread of its own while the block runs, and wait for it; an error of the block comes first."""
    with ThreadPoolExecutor(1, thread_name_prefix="raysim-closing") as thread:
        made = thread.submit(call)
        yield
    made.result()
