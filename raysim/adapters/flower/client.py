"""One message of a client: the app's ClientApp called with a context and with generators that are set by key."""

from __future__ import annotations

import copy
import time
import traceback
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from raysim.adapters.flower.apps import AppSource
from raysim.adapters.flower.library import identify, library
from raysim.adapters.flower.randomness import seeded
from raysim.user_code import passes, told

CLIENT = 3
"""Key of a client's random numbers, beside those of `randomness`."""


@dataclass(frozen=True, slots=True)
class Work:
    """A message to be answered.

    Attributes:
        message: without the ArrayRecords, which travel as parts.
        names: of all its records in order.
        parts: of those that travel as parts.
        context: fields of the node's context but its state.
        state: what the node has kept so far; None for nothing.
        partition: of the node, from 0.
        number: messages that the node had before.
    """

    message: Any
    names: tuple[str, ...]
    parts: tuple[str, ...]
    context: dict[str, Any]
    state: Any
    partition: int
    number: int


@dataclass(frozen=True, slots=True)
class Replied:
    """What came of it.

    Attributes:
        reply: the message, which holds an error where the client raised one.
        state: what the node keeps; as before where it raised.
        error: of the client in one line; None where it raised none.
        traceback: of it, as Python prints it.
        seconds: that the client took.
    """

    reply: Any
    state: Any
    error: str | None = None
    traceback: str | None = field(default=None, repr=False)
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class ClientProgram:
    """The app's clients, for actors and for this process.

    Attributes:
        threads: of torch, BLAS and OpenMP; None leaves them alone.
    """

    source: AppSource
    run_id: int
    seed: int
    threads: int | None

    def open(self) -> Callable[..., Replied]:
        """Import the app and answer its messages."""
        identify(self.run_id)
        app = self.source.client_app()
        if self.threads is not None:
            limit_threads(self.threads)
        return lambda work, *parts: self._answer(app, work, parts)

    def _answer(self, app: Any, work: Work, parts: tuple[Any, ...]) -> Replied:
        flwr = library()
        message = _whole(work, parts)
        state = flwr.RecordDict() if work.state is None else copy.deepcopy(work.state)
        context = flwr.Context(**work.context, state=state)
        began = time.perf_counter()
        failed: BaseException | None = None
        with seeded(self.seed, CLIENT, work.partition, work.number):
            try:
                reply = app(message=message, context=context)
                if not isinstance(reply, flwr.Message):
                    raise TypeError(f"the client app returned a {type(reply).__name__}, not a Message")
            except BaseException as error:
                if isinstance(error, KeyboardInterrupt) and passes(error):
                    raise
                failed, reply = error, _error_reply(error, message)
        seconds = time.perf_counter() - began
        if failed is None:
            said = told_error(reply) if reply.has_error() else None
            return Replied(reply, context.state if context.state else None, said, None, seconds)
        trace = "".join(traceback.format_exception(failed))
        return Replied(reply, work.state, told(failed), trace, seconds)


def told_error(reply: Any) -> str:
    """An error reply in a few words."""
    return f"error {reply.error.code}: {' '.join(str(reply.error.reason).split())[:200]}"


def limit_threads(threads: int) -> None:
    """Compute with this many threads: torch, and the BLAS and OpenMP libraries that are loaded."""
    import torch
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(threads)
    threadpool_limits(limits=threads)


def _whole(work: Work, parts: tuple[Any, ...]) -> Any:
    """A message of the client's own: nothing in it is shared with another call."""
    message = copy.deepcopy(work.message)
    own = copy.deepcopy(dict(zip(work.parts, parts, strict=True)))
    if own:
        rest = message.content
        message.content = library().RecordDict({name: own.get(name, rest.get(name)) for name in work.names})
    return message


def _error_reply(error: BaseException, message: Any) -> Any:
    """As Flower's own simulation answers for a client that raises: its code, and a reason that holds the message."""
    flwr = library()
    shown = flwr.ClientAppException(str(error))
    reason = f"{type(shown)}:<'{shown}'>"
    return flwr.Message(flwr.Error(code=flwr.ErrorCode.CLIENT_APP_RAISED_EXCEPTION, reason=reason), reply_to=message)
