"""The `execution.faults` section: what becomes of clients whose training comes to nothing."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysim.config.base import Section
from raysim.config.bounds import SECONDS

Policy = Literal["retry", "drop", "fail"]
FaultKind = Literal["died", "hung", "memory", "data", "error"]


class FaultsConfig(Section):
    """What becomes of clients whose training comes to nothing. `retry` gives them out again, elsewhere if there is an
    elsewhere, at most `execution.max_retries` times; `drop` leaves the client out of the round, counted and named;
    `fail` ends the run. Of several clients that were lost together, each is tried by itself before one is dropped."""

    died: Policy = "retry"
    """The actor died, or its node did; a kill by the operating system or by Ray for want of memory is a death, too."""
    hung: Policy = "retry"
    """No answer within the deadline: the actor is killed, and what it may still say is not listened to."""
    memory: Policy = "retry"
    """Memory ran out, in the actor or in the object store, and the actor lived to say so."""
    data: Policy = "retry"
    """A shard could not be read on the actor's node; `retry` tries every other node first."""
    error: Policy = "retry"
    """A client's own code raised an error; `retry` ends the run where the same error comes from two actors."""
    deadline: Annotated[float, Field(gt=0, le=SECONDS)] | Literal["auto"] = "auto"
    """Seconds that a call to an actor may take; `auto` is ten times what finished clients lead to expect, never less
    than `least_deadline`, and twelve times that before anything was finished."""
    least_deadline: float = Field(300.0, gt=0, le=SECONDS)
    """Seconds that `deadline: auto` is never below."""
