"""Stages that make messages short: codecs, what feeds their errors back, and which layers they leave as they are."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section


class TopKConfig(Section):
    """The values of largest magnitude, and the Golomb-coded gaps between their columns."""

    name: Literal["topk"] = "topk"
    fraction: float = Field(0.01, gt=0, lt=1)
    """Share of the values that is sent."""


class QsgdConfig(Section):
    """Magnitudes as a share of their block's L2 norm, rounded at random to a few levels (Alistarh et al. 2017)."""

    name: Literal["qsgd"] = "qsgd"
    levels: int = Field(7, ge=1, le=127)
    """Levels s above zero: a value takes log2(2s + 1) bits, rounded up."""
    block: int = Field(512, ge=1, le=2**20)
    """Values that share a norm."""


class IntegersCodecConfig(Section):
    """Integers of 8 or 4 bits, in units of their block's largest magnitude, rounded at random."""

    name: Literal["int8", "int4"] = "int8"
    block: int = Field(512, ge=1, le=2**20)
    """Values that share a unit."""


class SignConfig(Section):
    """A bit a value, its sign, times the mean magnitude of its layer (Karimireddy et al. 2019)."""

    name: Literal["sign"] = "sign"


class MajorityConfig(Section):
    """A bit a value, its sign; the server takes the sign that has more weight (Bernstein et al. 2018)."""

    name: Literal["majority"] = "majority"
    step: float = Field(0.001, gt=0)
    """Magnitude of each value of the mean."""


class CastConfig(Section):
    """Floats of 16 bits: `fp16` has 11 bits of precision and ends at 65,504, `bf16` has 8 and the range of float32."""

    name: Literal["fp16", "bf16"] = "fp16"


class PowerSgdConfig(Section):
    """Each matrix as a product of two of low rank, by one step of the power method (Vogels et al. 2019)."""

    name: Literal["powersgd"] = "powersgd"
    rank: int = Field(4, ge=1, le=256)
    """Columns of the factors. A layer whose factors are no smaller than itself goes as it is."""


CodecConfig = Annotated[
    Annotated[TopKConfig, Tag("topk")]
    | Annotated[QsgdConfig, Tag("qsgd")]
    | Annotated[IntegersCodecConfig, Tag("int8")]
    | Annotated[IntegersCodecConfig, Tag("int4")]
    | Annotated[SignConfig, Tag("sign")]
    | Annotated[MajorityConfig, Tag("majority")]
    | Annotated[CastConfig, Tag("fp16")]
    | Annotated[CastConfig, Tag("bf16")]
    | Annotated[PowerSgdConfig, Tag("powersgd")],
    BY_NAME,
    SHORTHAND,
]
DownlinkCodecConfig = Annotated[
    Annotated[TopKConfig, Tag("topk")]
    | Annotated[QsgdConfig, Tag("qsgd")]
    | Annotated[IntegersCodecConfig, Tag("int8")]
    | Annotated[IntegersCodecConfig, Tag("int4")]
    | Annotated[SignConfig, Tag("sign")]
    | Annotated[CastConfig, Tag("fp16")]
    | Annotated[CastConfig, Tag("bf16")]
    | Annotated[PowerSgdConfig, Tag("powersgd")],
    BY_NAME,
    SHORTHAND,
]
"""As `CodecConfig`, but for a majority, which is of several clients."""


class ErrorFeedbackConfig(Section):
    """The client keeps what its messages left out, and adds it to its next update (Seide et al. 2014)."""

    name: Literal["ef14"] = "ef14"
    decay: float = Field(1.0, gt=0, le=1)
    """Factor on what is kept for each round in which the client did not take part."""


class DifferencesConfig(Section):
    """Client and server keep an estimate of the client's update, and the message is the compressed difference from it
    (EF21, Richtárik et al. 2021)."""

    name: Literal["ef21"] = "ef21"


FeedbackConfig = Annotated[
    Annotated[ErrorFeedbackConfig, Tag("ef14")] | Annotated[DifferencesConfig, Tag("ef21")], BY_NAME, SHORTHAND
]


class LayersConfig(Section):
    """Which layers a codec is for; the others are sent as they are."""

    include: tuple[str, ...] = ("*",)
    """Patterns of the parameters' names, such as `["*lora_*"]`."""
    exclude: tuple[str, ...] = ()
    """Patterns of those that are left as they are."""
    dense_below: int = Field(512, ge=0)
    """Layers of fewer values are left as they are."""


class CompressStageConfig(LayersConfig):
    """Send what a codec makes of the update."""

    name: Literal["compress"] = "compress"
    codec: CodecConfig
    """What a message is."""
    feedback: FeedbackConfig | None = None
    """What becomes of the error of a message; by default it is lost."""

    @model_validator(mode="after")
    def _sizes_survive(self) -> CompressStageConfig:
        if isinstance(self.codec, MajorityConfig) and self.feedback is not None:
            raise ValueError(
                "feedback: a majority of signs has no sizes, so that no client knows its error; set codec to sign"
            )
        return self


class RandomKStageConfig(LayersConfig):
    """Send the values in some columns, the same of all clients, drawn anew in each round."""

    name: Literal["randk"] = "randk"
    fraction: float = Field(0.1, gt=0, lt=1)
    """Share of the columns."""
    unbiased: bool = True
    """The server divides by the share, so that the mean is right on average. False: other columns stay as they are, a
    smaller step of less variance."""


class SketchStageConfig(LayersConfig):
    """Send a count sketch; the server takes the mean's largest values, and keeps the rest (Rothchild et al. 2020)."""

    name: Literal["sketch"] = "sketch"
    rows: int = Field(5, ge=1, le=64)
    """Rows of the table: independent estimates, of which the median counts."""
    width: int = Field(1000, ge=1, le=2**28)
    """Columns of the table, which is what clients send."""
    fraction: float = Field(0.001, gt=0, lt=1)
    """Share of the values that the server takes in a round. Estimates are off by the norm of what is left over the root
    of `width`, so that it should be far fewer values than a row has."""
    momentum: float = Field(0.0, ge=0, lt=1)
    """Of the server's table."""


class RotateStageConfig(LayersConfig):
    """Rotate the update by a random Hadamard transform, which makes its values alike in size, and the mean back."""

    name: Literal["rotate"] = "rotate"
    block: int = Field(1024, ge=2, le=2**16)
    """Values that are mixed, a power of two."""

    @model_validator(mode="after")
    def _power_of_two(self) -> RotateStageConfig:
        if self.block & (self.block - 1):
            raise ValueError(f"block is {self.block}; expected a power of two, such as 1024")
        return self


class DownlinkStageConfig(LayersConfig):
    """Send clients what a codec makes of the model's change; the server feeds the error back."""

    name: Literal["downlink"] = "downlink"
    codec: DownlinkCodecConfig
    """What a message is."""
