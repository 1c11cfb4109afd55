"""The compiled code of an engine: whole steps, each with its correction, and gradients by themselves."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from torch import Tensor

from raysim.training.capture import Vectorised
from raysim.training.compiled_correction import VectorSizes
from raysim.training.groups import Clip
from raysim.training.inputs import Correction
from raysim.training.layout import ParameterLayout
from raysim.training.optimizers import RowOptimizer
from raysim.training.whole_step import NotWhole, WholeStep


@dataclass(frozen=True, slots=True)
class LocalUpdate:
    """What a local step does with gradients.

    Attributes:
        optimizer: the trainer's own, whose state the step changes; None leaves the rows where they are.
        corrections: those that local steps are taken with, None for steps without one.
        plain: whether gradients are taken by themselves as well.
        sizes: of the vectors that corrections may look at.
    """

    optimizer: RowOptimizer | None
    clip_norm: Clip | None
    corrections: tuple[Correction | None, ...] = (None,)
    plain: bool = False
    sizes: VectorSizes = field(default_factory=VectorSizes)


@dataclass(slots=True)
class Codes:
    """The compiled code of an engine.

    Attributes:
        whole: of whole steps, by their correction.
        alone: of the gradient alone, where it is taken by itself or a correction cannot be compiled along.
        not_whole: why no more than the gradient is compiled of some steps; empty where they are whole.
    """

    whole: dict[Correction | None, WholeStep] = field(default_factory=dict)
    alone: WholeStep | None = None
    not_whole: str = ""

    @classmethod
    def compiled(
        cls, gradient: Vectorised, layout: ParameterLayout, update: LocalUpdate, example: Sequence[Tensor]
    ) -> Codes:
        """Compile a step with each of the update's corrections, as far as that can be done.

        Args:
            gradient, example: see `WholeStep`.

        Raises:
            NotWhole: not even the gradient can be compiled.
        """
        codes = cls(not_whole="" if update.corrections else "the algorithm takes steps of its own")
        for correct in update.corrections:
            try:
                step = WholeStep(gradient, layout, update.optimizer, update.clip_norm, correct, example, update.sizes)
            except NotWhole as reason:
                codes.not_whole = codes.not_whole or str(reason)
            else:
                codes.whole[correct] = step
        if update.plain or codes.not_whole:
            codes.alone = WholeStep(gradient, layout, None, None, None, example, VectorSizes())
        return codes

    @property
    def checked(self) -> str:
        """Why steps go through torch's checks; empty where none does."""
        return next((code.checked for code in self.all if code.checked), "")

    @property
    def all(self) -> list[WholeStep]:
        """Every piece of code."""
        return [*self.whole.values(), *([] if self.alone is None else [self.alone])]
