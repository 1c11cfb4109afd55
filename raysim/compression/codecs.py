"""The codec of a configuration, for vectors of some layers."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any

from raysim.compression.codec import Codec
from raysim.compression.low_rank import PowerSgd
from raysim.compression.narrow import Cast, Majority, Sign
from raysim.compression.quantised import Integers, Qsgd
from raysim.compression.sparse import TopK
from raysim.config.compression import (
    CastConfig,
    CodecConfig,
    IntegersCodecConfig,
    MajorityConfig,
    PowerSgdConfig,
    QsgdConfig,
    SignConfig,
    TopKConfig,
)


def build_codec(config: CodecConfig, shapes: Sequence[tuple[int, ...]]) -> Codec[Any]:
    """A codec of vectors that are layers of these shapes, one after the other.

    Raises:
        ConfigError: it would send nothing, or save nothing.
    """
    sizes = [prod(shape) for shape in shapes]
    n = sum(sizes)
    match config:
        case TopKConfig():
            return TopK(n, config.fraction)
        case QsgdConfig():
            return Qsgd(n, config.levels, config.block)
        case IntegersCodecConfig():
            return Integers(n, 8 if config.name == "int8" else 4, config.block)
        case SignConfig():
            return Sign(n, sizes)
        case MajorityConfig():
            return Majority(n, config.step)
        case CastConfig():
            return Cast(n, config.name)
        case PowerSgdConfig():
            return PowerSgd(n, shapes, config.rank)
