"""`aggregation.protection`: how the server is kept from seeing what single clients send."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section


class NoProtectionConfig(Section):
    """Records reach the server as they are, or as sums over those of a worker."""

    name: Literal["none"] = "none"


class DropoutConfig(Section):
    """Shares of the cohort that stop answering, drawn by key, before each message that a client sends."""

    advertise: float = Field(0.0, ge=0, lt=1)
    """Before a client sends its public keys."""
    share: float = Field(0.0, ge=0, lt=1)
    """Before it sends shares of its secrets."""
    upload: float = Field(0.0, ge=0, lt=1)
    """Before it sends its record, when others have masked theirs for it."""
    unmask: float = Field(0.0, ge=0, lt=1)
    """Before it hands out shares; its record counts."""


class IntegersConfig(Section):
    """What all sums of integers modulo a power of two have in common."""

    bits: int = Field(64, ge=2, le=64)
    """Bits of a client's value. 64: the integers, and so the model, of a run without protection. 32 or fewer: values
    are clipped, scaled and rounded at random to this number of bits, and a word has log2(cohort) more."""
    clip: float | None = Field(None, gt=0)
    """Largest magnitude of a value, where `bits` are 32 or fewer; larger values are set to it."""

    @model_validator(mode="after")
    def _clipped_where_narrow(self) -> IntegersConfig:
        if 32 < self.bits < 64:
            raise ValueError(f"bits is {self.bits}; expected 64, or 2 to 32")
        if self.bits == 64 and self.clip is not None:
            raise ValueError("clip is for 32 bits or fewer: in 64 bits nothing is clipped; remove it, or set bits")
        if self.bits < 64 and self.clip is None:
            raise ValueError(f"{self.bits} bits need a largest magnitude of a value; set clip, e.g. to 1.0")
        return self


class DroppingConfig(IntegersConfig):
    """What protocols of several messages have in common."""

    dropout: DropoutConfig = DropoutConfig()
    """Clients that stop answering."""


class UnmaskedConfig(DroppingConfig):
    """The integers that masks would be added to, in the clear: what a masked run is compared with."""

    name: Literal["unmasked"] = "unmasked"

    @model_validator(mode="after")
    def _no_shares(self) -> UnmaskedConfig:
        if self.dropout.unmask:
            raise ValueError("dropout.unmask: without masks no client is asked for shares; remove it")
        return self


class MaskedConfig(DroppingConfig):
    """What both protocols of secure aggregation have in common."""

    threshold: float = Field(0.6, gt=0.5, le=1)
    """Share of a client's neighbours that must hand out their shares, and of the cohort that must send a record. Above
    one half, so that no two sets of clients can hand out both secrets of one client."""


class SecAggConfig(MaskedConfig):
    """Masks between all pairs of clients (Bonawitz et al. 2017)."""

    name: Literal["secagg"] = "secagg"


class SecAggPlusConfig(MaskedConfig):
    """Masks between neighbours in a random regular graph (Bell et al. 2020)."""

    name: Literal["secagg_plus"] = "secagg_plus"
    neighbours: int | None = Field(None, ge=2, multiple_of=2)
    """Of each client; by default 20, or all others where those are fewer."""


class EncryptedConfig(IntegersConfig):
    """What both schemes of homomorphic encryption have in common."""

    layers: tuple[str, ...] | None = Field(None, min_length=1)
    """Encrypt only parameters whose names match one of these patterns, e.g. `["0.*"]`; the others are sent as they
    are. By default all are encrypted."""
    share: float | None = Field(None, gt=0, lt=1)
    """Encrypt only this share of the columns, the same ones in every round, drawn by key."""
    sensitivity: str | None = None
    """A `.npy` file of a number for each parameter and buffer value, in the model's order: the `share` of the values
    with the largest numbers is encrypted. Every machine reads it."""

    @model_validator(mode="after")
    def _one_choice(self) -> EncryptedConfig:
        if self.layers is not None and self.share is not None:
            raise ValueError("layers and share both choose what is encrypted; remove one")
        if self.sensitivity is not None and self.share is None:
            raise ValueError("sensitivity says which values come first; set share, e.g. to 0.1, to say how many")
        return self


class BfvConfig(EncryptedConfig):
    """Homomorphic encryption of integers (Fan & Vercauteren 2012): the bits of the run without it."""

    name: Literal["bfv"] = "bfv"


class CkksConfig(EncryptedConfig):
    """Homomorphic encryption of real numbers (Cheon et al. 2017), to compare with: sums are off by about 1e-8, by
    another error each time, so that a run is not repeatable."""

    name: Literal["ckks"] = "ckks"

    @model_validator(mode="after")
    def _of_reals(self) -> CkksConfig:
        if self.bits != 64:
            raise ValueError(f"bits is {self.bits}: ckks encrypts reals; remove bits and clip, or take bfv")
        return self


ProtectionConfig = Annotated[
    Annotated[NoProtectionConfig, Tag("none")]
    | Annotated[UnmaskedConfig, Tag("unmasked")]
    | Annotated[SecAggConfig, Tag("secagg")]
    | Annotated[SecAggPlusConfig, Tag("secagg_plus")]
    | Annotated[BfvConfig, Tag("bfv")]
    | Annotated[CkksConfig, Tag("ckks")],
    BY_NAME,
    SHORTHAND,
]
