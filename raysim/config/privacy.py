"""The `privacy` section: what the noise of `aggregation.stages` is worth, and how much of it may be spent."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from raysim.config.base import Section


class PrivacyConfig(Section):
    """How the privacy of clients is accounted for where stages add noise."""

    delta: float | None = Field(None, gt=0, lt=1)
    """δ of (ε, δ); below one in as many as there are clients. By default population^-1.1, at most 1e-5."""
    accountant: Literal["pld", "rdp", "legacy"] | None = None
    """`pld` composes privacy loss distributions, `rdp` Rényi divergences; `legacy` is `rdp` converted as papers did
    until 2020, to compare with them. By default `pld`, and `rdp` for samples of a fixed size and noise on integers."""
    adjacency: Literal["add_remove", "replace_one"] | None = None
    """Neighbouring federations differ in one client who is there or not, or whose data are others. By default
    `add_remove`; `replace_one` for samples of a fixed size and noise that each client adds."""
    budget: float | None = Field(None, gt=0)
    """The largest ε: the run ends with the last round that stays within it, known before the first one."""
    hypothetical_cohort: int | None = Field(None, ge=2)
    """Scale noise as for a cohort of this many clients, which the run does not have: the accuracy of a large federation
    from a small one. What is accounted for is that cohort's ε, and is shown as hypothetical everywhere."""
