"""Stages that fold a vector of another size in place of a field: what they have in common."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Generic, TypeVar

from raysim.aggregation import Field, UpdateStage
from raysim.aggregation.stages import ModelColumns
from raysim.compression.layers import LayerChoice, Layers
from raysim.compression.parts import compressible


@dataclass(frozen=True, slots=True)
class Replacement:
    """What is folded in place of a field: values made of some of its layers, then those of the others as they are.

    Attributes:
        number: of the field among those that are replaced; it keys what is drawn.
        layers: of the field.
        size: values made of the layers that are chosen.
    """

    number: int
    layers: Layers
    size: int


R = TypeVar("R", bound=Replacement)


class ReplacingStage(UpdateStage, Generic[R]):
    """Replaces each field that has layers to compress, before anything is summed: sums are of the new vectors."""

    roads = frozenset({"sum", "rows", "modular"})
    columnwise = False

    def __init__(self, columns: ModelColumns, include: Sequence[str], exclude: Sequence[str], dense_below: int) -> None:
        super().__init__(columns)
        self._choice = LayerChoice(include, exclude, dense_below)

    def replacement(self, number: int, field: Field, layers: Layers) -> R:
        """What is folded in place of a field.

        Raises:
            ConfigError: its layers have too few values, or too many.
        """
        raise NotImplementedError

    @cached_property
    def replaced(self) -> Mapping[str, R]:
        """Of each field that is replaced, by its name."""
        found = compressible(self.columns, self.sent, self._choice, replaced=True)
        return {field.name: self.replacement(i, field, layers) for i, (field, layers) in enumerate(found)}

    def fields(self, sent: Sequence[Field]) -> Sequence[Field]:
        sizes = {name: one.size + one.layers.dense for name, one in self.replaced.items()}
        return [replace(one, size=sizes[one.name], sent=None) if one.name in sizes else one for one in sent]
