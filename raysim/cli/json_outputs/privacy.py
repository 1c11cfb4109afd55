"""Outputs of `raysim privacy`."""

from __future__ import annotations

from dataclasses import dataclass

from raysim.privacy.audit import CONFIDENCE, AuditFinding, MechanismAudit
from raysim.privacy.plan import PrivacyFacts


@dataclass(frozen=True, slots=True)
class EpsilonPoints:
    """Epsilon by round.

    Attributes:
        rounds: that were looked at.
        epsilon: spent after each of them.
    """

    rounds: tuple[int, ...]
    epsilon: tuple[float, ...]


@dataclass(frozen=True, slots=True)
class CurveOutput(PrivacyFacts):
    """What noise is worth, round by round.

    Attributes:
        curve: epsilon by round.
    """

    curve: EpsilonPoints


@dataclass(frozen=True, slots=True)
class AuditOutput:
    """An audit of one round's release; with exit code 1 where it does not hold.

    Attributes:
        findings: at the delta of the configuration, and at a larger one.
        trials: releases with one client, and as many without.
        deviation: the noise multiplier that is found.
        holds: whether all that was found is compatible with what is claimed.
        confidence: of the lower bounds.
    """

    findings: tuple[AuditFinding, ...]
    trials: int
    deviation: float
    holds: bool
    confidence: float

    @classmethod
    def of(cls, found: MechanismAudit) -> AuditOutput:
        """The same for a program."""
        return cls(found.findings, found.trials, found.deviation, found.holds, CONFIDENCE)
