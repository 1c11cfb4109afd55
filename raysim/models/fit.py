"""Does the model fit the data? Found out before the first round, not in a worker."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter

from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.outputs import output_shape

SAMPLES = 2


def check_trainable(model: nn.Module, *, name: str | None = None) -> None:
    """Check that there is something to train, in float32.

    Raises:
        ModelError: no trainable parameter, a lazy one, or one that is not float32.
    """
    name = name or type(model).__name__
    trainable = 0
    for key, parameter in model.named_parameters():
        if isinstance(parameter, UninitializedParameter):
            raise ModelError(f"model {name}: parameter {key!r} is lazy; run one batch through the model first")
        if parameter.requires_grad and parameter.dtype != torch.float32:
            raise ModelError(f"model {name}: parameter {key!r} is {parameter.dtype}; make it float32 with `.float()`")
        trainable += parameter.requires_grad
    if trainable == 0:
        raise ModelError(f"model {name} has no trainable parameters (none with requires_grad=True)")


def check_fit(model: nn.Module, info: DataInfo, loss: str = "auto", *, name: str | None = None) -> tuple[int, ...]:
    """Run two blank samples through the model in evaluation mode, without computing where that is possible.

    The model is left as it was. With a loss of the user's own any output shape is accepted.

    Args:
        model: the model.
        info: what a sample looks like.
        loss: the configuration's `training.loss`.
        name: what errors call the model; by default its class.

    Returns:
        The shape of the output for one sample.

    Raises:
        ModelError: the model has nothing to train in float32, does not accept the inputs, or its output does not fit
            the targets.
    """
    name = name or type(model).__name__
    check_trainable(model, name=name)
    output = _blank_output(model, info, name)
    inputs = f"{[SAMPLES, *info.input_shape]}"
    if not isinstance(output, Tensor):
        raise ModelError(f"model {name} maps {inputs} to a {type(output).__name__}; it must return one tensor")
    found, outputs = list(output.shape), output_shape(info, loss)
    fits = [[SAMPLES, *outputs]]
    if outputs == info.target_shape:  # one number a target; a last dimension of one is as good
        fits.append([SAMPLES, *outputs, 1])
    if found not in fits and not (":" in loss and found[:1] == [SAMPLES]):
        raise ModelError(f"model {name} maps {inputs} to {found}, but {_reason(info, loss)} (expected {fits[0]})")
    return tuple(found[1:])


def _reason(info: DataInfo, loss: str) -> str:
    if ":" in loss:
        return "the first dimension must be the sample's"
    if loss == "binary_cross_entropy":
        return "binary_cross_entropy wants one logit for each target"
    if info.classes is None:
        return f"the data's targets have shape {info.target_shape}"
    each = f" for each of {info.target_shape} targets" if info.target_shape else ""
    return f"the data has {info.classes} classes{each}"


def _blank_output(model: nn.Module, info: DataInfo, name: str) -> object:
    tokens = info.input_kind == "tokens"
    x = torch.zeros((SAMPLES, *info.input_shape), dtype=torch.float32)
    if tokens:  # the largest id: an embedding that is too small must show now
        x = torch.full(x.shape, (info.vocabulary or 1) - 1, dtype=torch.int64)
    state: dict[str, Tensor] = {**dict(model.named_parameters()), **dict(model.named_buffers())}
    with _evaluation_mode(model), torch.no_grad(), torch.random.fork_rng(devices=[]):
        if not tokens:  # whose ids the meta device does not look at
            meta = {key: torch.empty_like(tensor, device="meta") for key, tensor in state.items()}
            try:
                return functional_call(model, meta, (x.to("meta"),))
            except Exception:  # noqa: S110 - whatever the module cannot do without values, it is tried with values next
                pass
        values = {key: torch.zeros_like(t, device="cpu") if t.is_meta else t.clone() for key, t in state.items()}
        try:
            return functional_call(model, values, (x.to(next(iter(values.values())).device),))
        except Exception as error:
            line = (str(error).strip().splitlines() or [type(error).__name__])[0]
            kind = "tokens" if tokens else "inputs"
            raise ModelError(f"model {name} does not accept {kind} of shape {info.input_shape}: {line}") from error


@contextmanager
def _evaluation_mode(model: nn.Module) -> Iterator[None]:
    before = [(module, module.training) for module in model.modules()]
    model.eval()
    try:
        yield
    finally:
        for module, training in before:
            module.training = training
