"""The stage that puts canaries among the clients of a run."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysim.config.base import Section


class CanariesStageConfig(Section):
    """Have some clients send a random direction each in place of an update, so that a run can be audited by how much of
    it the model keeps (Andrew et al. 2023); put it outside of the clip."""

    name: Literal["canaries"] = "canaries"
    first: int = Field(ge=0)
    """The client from which on all are canaries; `raysim data` shows how many clients there are."""
    norm: float = Field(1e3, gt=0)
    """L2 norm of what a canary sends, before it is clipped."""
    silent: float = Field(0.0, ge=0, lt=1)
    """Chance of a canary to send zeros in every round: what the others are told from in a membership test."""
