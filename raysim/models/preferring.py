"""A language model on pairs of answers: how much likelier it makes each of them than its frozen base does.

Rafailov, Sharma, Mitchell, Ermon, Manning & Finn, "Direct Preference Optimization: Your Language Model is Secretly a
Reward Model", NeurIPS 2023.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysim.data.federation import DataInfo
from raysim.data.inputs import ANSWER, IDS, InputField
from raysim.errors import ModelError
from raysim.models.inputs import take_inputs
from raysim.models.outputs import one_tensor
from raysim.models.transformer_inputs import TransformerInputs
from raysim.models.versioned import versioned_bases

_ADAPTERS = (".lora_", ".ia3_l")


def log_probability(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """log π(y | x) of answers, the sum over their tokens, `[n]`.

    Args:
        logits: of each position's token, `[n, length, vocabulary]`: those that the model gives one position before.
        tokens: `[n, length]`, int64.
        counted: which positions belong to the answer, bool `[n, length]`; the prompt and padding do not.
    """
    chosen = F.log_softmax(logits.float(), dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(~counted, 0.0).sum(dim=-1)


@dataclass(frozen=True, slots=True)
class PairInputs:
    """A hook before the forward pass: of pairs of answers, to their sequences, one after the other.

    Attributes:
        inputs: of a sample.
        sequences: how the model is given sequences.
    """

    inputs: tuple[InputField, ...]
    sequences: TransformerInputs

    @classmethod
    def of(cls, module: nn.Module, info: DataInfo) -> PairInputs:
        """For a model on pairs like these.

        Raises:
            ModelError: it has no adapters, something else trains beside them, or it does not take the sequences.
        """
        length = next(one.shape[-1] for one in info.inputs if one.name == IDS)
        sequences = replace(info, input_kind="tokens", input_shape=(length,), inputs=())
        given, name = TransformerInputs.of(module, sequences), type(module).__name__
        if not given.causal or not _adapted(module):
            raise ModelError(
                f"model {name}: pairs of answers train the adapters of a decoder, whose base is the reference model; "
                "use task: causal_lm with peft lora or ia3"
            )
        for key, parameter in module.named_parameters():
            if parameter.requires_grad and not any(marker in key for marker in _ADAPTERS):
                raise ModelError(
                    f"model {name}: {key!r} trains beside the adapters, and with it the base would be no reference "
                    "model any more; remove it from model.train"
                )
        return cls(info.inputs, given)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        taken = take_inputs(args[0], self.inputs)
        _, given = self.sequences(module, (taken[IDS].flatten(0, 1),), {})
        return (), {**given, ANSWER: taken[ANSWER].flatten(0, 1)}


class PairForward:
    """The forward pass of a model with adapters, on sequences that are pairs of answers."""

    def __init__(self, module: nn.Module) -> None:
        self._forward, self._modules = module.forward, list(module.modules())
        self._adapted, self._versioned = _adapted(module), versioned_bases(module)

    def __call__(self, answer: Tensor, **inputs: Any) -> Tensor:
        """log π(y) - log π₀(y) of both answers, `[n, 2]`, where π₀ is the base without adapters, not in training."""
        tokens, counted = inputs[IDS][:, 1:], answer[:, 1:]
        with torch.no_grad(), self._base_alone():
            reference = log_probability(one_tensor(self._forward(**inputs))[:, :-1], tokens, counted)
        own = log_probability(one_tensor(self._forward(**inputs))[:, :-1], tokens, counted)
        return (own - reference).view(-1, 2)

    @contextmanager
    def _base_alone(self) -> Iterator[None]:
        """Without adapters, without what algorithms wrote into the base, and without dropout."""
        training = [one for one in self._modules if one.training]
        scales = [base.version_scaling for base in self._versioned]
        for one in training:
            one.training = False
        self._switch(off=True, scales=[0.0] * len(scales))
        try:
            yield
        finally:
            self._switch(off=False, scales=scales)
            for one in training:
                one.training = True

    def _switch(self, *, off: bool, scales: Sequence[float]) -> None:
        for adapter in self._adapted:
            adapter._disable_adapters = off  # peft's `enable_adapters` would also stop their training
        for base, scale in zip(self._versioned, scales, strict=True):
            base.version_scaling = scale


def _adapted(module: nn.Module) -> list[Any]:
    """Layers of peft, whose adapters can be switched off."""
    return [one for one in module.modules() if hasattr(one, "_disable_adapters")]
