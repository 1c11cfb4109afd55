"""The `execution.faults` section: how clients whose training failed are handled."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field

from raysim.config.base import Section
from raysim.config.bounds import SECONDS

Policy = Literal["retry", "drop", "fail"]
FaultKind = Literal["died", "hung", "memory", "data", "error"]


class FaultsConfig(Section):
    """How clients whose training failed are handled. `retry` trains them again, on another actor if there is one, at
    most `execution.max_retries` times; `drop` leaves the client out of the round, counted and named; `fail` ends the
    run. Of several clients that were lost together, each is tried by itself before one is dropped."""

    died: Policy = "retry"
    """The actor died, or its node did; so it does when the operating system or Ray kills it for lack of memory."""
    hung: Policy = "retry"
    """No answer within the deadline: the actor is killed, and a late answer is ignored."""
    memory: Policy = "retry"
    """Memory ran out, in the actor or in the object store, and the actor survived."""
    data: Policy = "retry"
    """A shard could not be read on the actor's node; `retry` tries every other node first."""
    error: Policy = "retry"
    """A client's own code raised an error; `retry` ends the run where the same error comes from two actors."""
    deadline: Annotated[float, Field(gt=0, le=SECONDS)] | Literal["auto"] = "auto"
    """Seconds that a call to an actor may take; `auto` is ten times the prediction from finished clients, never less
    than `least_deadline`, and twelve times that before any client has finished."""
    least_deadline: float = Field(300.0, gt=0, le=SECONDS)
    """Lower bound of `deadline: auto`, in seconds."""
