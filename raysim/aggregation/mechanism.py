"""What a stage of a chain releases in a round: all that an accountant has to know of its noise."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MechanismKind = Literal["gaussian", "laplace", "discrete_gaussian", "skellam", "tree", "banded", "blt"]
"""The noise: independent from round to round, on real numbers or on integers, or correlated over rounds."""

Adds = Literal["server", "clients", "each_client"]
"""Who adds the noise that protects a client: the server to the sum, the clients their shares of the noise of a sum that
alone is seen, or each client all of it to a message that is seen."""


@dataclass(frozen=True, slots=True)
class IntegerNoise:
    """Noise on integers that the clients of a sum add together.

    Attributes:
        l1, l2: largest norms of a client's contribution, in integer units, after its rounding.
        shares: clients that are sure to have added their shares.
        values: of a contribution.
    """

    l1: float
    l2: float
    shares: int
    values: int


@dataclass(frozen=True, slots=True)
class Mechanism:
    """The release of one stage in one round.

    A stage whose noise is correlated over rounds releases C⁻¹Z instead of Z: `noise_multiplier` is that of Z, and the
    sensitivity of C under repeated participation is the accountant's matter.

    Attributes:
        kind: of the noise.
        noise_multiplier: standard deviation of the noise on the *sum* of a round over the largest L2 norm of a client's
            contribution to it; of `laplace` noise its scale over the largest L1 norm. Noise of `clients` is that
            of all shares together, noise of `each_client` that on its own message.
        adds: who adds it.
        coefficients: of `banded` noise the first column of the Toeplitz matrix C, `[bands]`.
        output_scale, buf_decay: of `blt` noise, `[buffers]`: C has the coefficients 1, then Σ output_scale ·
            buf_decay^(i-1).
        restart: of `tree` noise the rounds of one tree.
        integers: of `discrete_gaussian` and `skellam` noise.
    """

    kind: MechanismKind
    noise_multiplier: float
    adds: Adds = "server"
    coefficients: tuple[float, ...] = ()
    output_scale: tuple[float, ...] = ()
    buf_decay: tuple[float, ...] = ()
    restart: int | None = None
    integers: IntegerNoise | None = None

    @property
    def correlated(self) -> bool:
        """Whether the noise of a round depends on that of others."""
        return self.kind in ("tree", "banded", "blt")
