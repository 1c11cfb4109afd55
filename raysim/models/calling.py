"""How a module is called with one tensor of samples where its forward pass takes, or returns, something else.

As hooks of the module, so that no name of a parameter changes: before the pass, the inputs of a record are taken apart
and given by name; after it, one tensor is taken out of what is returned. A transformer of the Hugging Face library gets
its attention masks ready-made (`raysim.models.transformer_inputs`).
"""

from __future__ import annotations

import inspect
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor, nn

from raysim.data.federation import DataInfo
from raysim.data.inputs import InputField
from raysim.errors import ModelError
from raysim.models.inputs import take_inputs
from raysim.models.outputs import entries, one_tensor
from raysim.models.preferring import PairForward, PairInputs
from raysim.models.transformer_inputs import TransformerInputs, backbone_config, inner_model, is_transformer
from raysim.models.wrapped import Encoder, Prompted

Given = tuple[tuple[Any, ...], dict[str, Any]]
MAIN = "main"
"""Name of the output proper, where a module in training mode gives auxiliary ones as well."""


class BeforeForward(Protocol):
    """A hook before the forward pass: of a tensor of samples, to positional and keyword arguments."""

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given: ...


@dataclass(frozen=True, slots=True)
class Calling:
    """The hooks that a module is called with; of `pairs` of answers also another forward pass."""

    before: BeforeForward | None = None
    output: TakeOutput | None = None
    pairs: bool = False

    @classmethod
    def of(cls, module: nn.Module, info: DataInfo, *, cut: bool = False, auxiliary: Iterable[str] = ()) -> Calling:
        """For a module on samples like these; the module itself is not changed.

        Args:
            cut: whether batches are cut to their longest sequence.
            auxiliary: names of further outputs that are wanted while it trains.

        Raises:
            ModelError: its forward pass does not take the inputs of the data.
        """
        if info.preferences:
            return cls._of_pairs(module, info)
        if is_transformer(module):
            return cls(TransformerInputs.of(module, info, cut=cut), TakeOutput(info.classes))
        if cut:
            raise ModelError(
                f"model {type(module).__name__}: client.buckets cuts what a transformer of the library is given; use "
                "model hugging_face, or remove it"
            )
        before = None if not info.inputs else _named(module, info.inputs)
        # The zoo, and chains of layers, return one tensor.
        plain = type(module) is nn.Sequential or type(module).__module__.startswith("raysim.")
        further = tuple(auxiliary)
        if plain and further:
            raise ModelError(f"model {type(module).__name__}: training.auxiliary: its forward pass returns one tensor")
        return cls(before, None if plain else TakeOutput(auxiliary=further))

    @classmethod
    def _of_pairs(cls, module: nn.Module, info: DataInfo) -> Calling:
        if not is_transformer(module):
            raise ModelError(
                f"model {type(module).__name__}: pairs of answers (task: preference) are for a transformer with "
                "adapters; use model hugging_face with peft"
            )
        return cls(PairInputs.of(module, info), pairs=True)

    def attach(self, module: nn.Module) -> nn.Module:
        """The module, which is called so from now on."""
        if self.pairs:
            module.forward = PairForward(module)
        if self.before is not None:
            module.register_forward_pre_hook(self.before, with_kwargs=True)
        if self.output is not None:
            module.register_forward_hook(self.output)
        return module


@dataclass(frozen=True, slots=True)
class NamedInputs:
    """Gives the inputs of a record as keyword arguments, or as one mapping."""

    inputs: tuple[InputField, ...]
    by_keyword: bool

    def __call__(self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Given:
        found = take_inputs(args[0], self.inputs)
        return ((), found) if self.by_keyword else ((found,), {})


@dataclass(frozen=True, slots=True)
class TakeOutput:
    """Takes one tensor out of a mapping or a dataclass that a forward pass returns.

    Attributes:
        classes: logits beyond these are dropped: a vocabulary is often padded to a round number.
        auxiliary: names of further tensors; in training mode they are given beside the output, which is `MAIN`.
    """

    classes: int | None = None
    auxiliary: tuple[str, ...] = ()

    def __call__(self, module: nn.Module, args: tuple[Any, ...], output: Any) -> Any:
        if self.auxiliary and module.training:
            return self._with_auxiliary(output)
        if not isinstance(output, Tensor):
            output = one_tensor(output)
        if self.classes is not None and isinstance(output, Tensor) and output.shape[-1] > self.classes:
            output = output[..., : self.classes]
        return output

    def _with_auxiliary(self, output: Any) -> dict[str, Any]:
        tensors = entries(output)
        for name in self.auxiliary:
            if name not in tensors:
                found = f"has {', '.join(tensors)}" if tensors else f"is a {type(output).__name__}"
                raise ModelError(
                    f"training.auxiliary: what the forward pass returns in training has no {name!r}: {found}"
                )
        further = {name: tensors.pop(name) for name in self.auxiliary}
        return {MAIN: one_tensor(tensors), **further}


def cache_argument(module: nn.Module) -> str | None:
    """The argument in which a decoder of the library takes the keys and values that it has returned; None of others.

    Versions of the library differ in its name.
    """
    if not is_transformer(module) or isinstance(module, Encoder | Prompted):
        return None
    names = inspect.signature(type(inner_model(module)).forward).parameters
    if "use_cache" not in names or not getattr(backbone_config(module), "use_cache", False):
        return None
    return next((name for name in ("cache", "past_key_values") if name in names), None)


def takes_any_length(module: nn.Module) -> bool:
    """Whether a module is known to take sequences of any length up to that of the data: a transformer, or the zoo's."""
    return is_transformer(module) or type(module).__module__.startswith("raysim.")


def _named(module: nn.Module, inputs: tuple[InputField, ...]) -> NamedInputs:
    parameters = list(inspect.signature(module.forward).parameters.values())
    keyword = {one.name for one in parameters if one.kind in (one.POSITIONAL_OR_KEYWORD, one.KEYWORD_ONLY)}
    names = [field.name for field in inputs]
    if all(name in keyword for name in names) or any(one.kind is one.VAR_KEYWORD for one in parameters):
        return NamedInputs(inputs, True)
    needed = {one.name for one in parameters if one.name in keyword and one.default is one.empty}
    if len(needed) == 1 and not keyword & set(names):
        return NamedInputs(inputs, False)
    missing = [name for name in names if name not in keyword]
    raise ModelError(
        f"model {type(module).__name__}: its forward pass takes {', '.join(sorted(keyword)) or 'nothing by name'}, but "
        f"the data has the inputs {', '.join(names)}; let it take {', '.join(missing)}, or one mapping of inputs"
    )
