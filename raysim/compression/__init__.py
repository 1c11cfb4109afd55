"""Compression: stages that make messages short, and the codecs whose lengths `wire_up` and `wire_down` record.

A codec is algebra, which a run uses, and bytes, which a run only counts: a test says that both are the same.
"""

from raysim.compression.codec import Codec, Draw
from raysim.compression.codecs import build_codec
from raysim.compression.layers import Layers

__all__ = ["Codec", "Draw", "Layers", "build_codec"]
