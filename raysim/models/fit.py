"""Does the model fit the data? Found out before the first round, not in a worker."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from itertools import chain

import torch
from torch import Tensor, nn
from torch.func import functional_call
from torch.nn.parameter import UninitializedParameter

from raysim.config.training import is_own_loss
from raysim.data.federation import DataInfo
from raysim.errors import ModelError
from raysim.models.blueprint import Blueprint
from raysim.models.calling import Calling
from raysim.models.exclusive import exclusive_torch
from raysim.models.inputs import largest_record
from raysim.models.modes import TrainingModes
from raysim.models.outputs import OutputShape, entries, output_shape
from raysim.models.transformer_inputs import is_transformer, unsupported
from raysim.user_code import told, user_code

SAMPLES = 2
LIGHT = 64 << 20
"""Bytes of a model up to which it is tried with values first: what `meta` needs of torch takes more than a second to
import."""


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


def check_values(model: nn.Module, *, name: str | None = None) -> None:
    """Check that every tensor of a module that is to be trained has values.

    Raises:
        ModelError: one is on the meta device.
    """
    name = name or type(model).__name__
    for key, tensor in chain(model.named_parameters(), model.named_buffers()):
        if tensor.is_meta:
            raise ModelError(
                f"model {name}: {key!r} is on the meta device, where it has no values; build the module on the CPU, or "
                "call `.to_empty(device='cpu')` and load its weights"
            )


def check_fit(
    model: nn.Module, info: DataInfo, loss: str = "auto", *, name: str | None = None, auxiliary: Iterable[str] = ()
) -> OutputShape:
    """Run two blank samples through the model in evaluation and in training mode, a large one on `meta` if possible.

    The model is left as it was: a copy is tried. With a loss of the user's own any output shape is accepted.

    Args:
        model: the model.
        info: what a sample looks like.
        loss: the configuration's `training.loss`.
        name: what errors call the model; by default its class.
        auxiliary: names of further outputs that it gives while it trains.

    Returns:
        The shape of the output for one sample; of several outputs by name, for a loss of the user's own.

    Raises:
        ModelError: the model has nothing to train in float32, does not accept the inputs, or its output does not fit
            the targets; or it does otherwise while it trains.
    """
    trial = _Trial(model, info, name, auxiliary)
    found = _checked_shape(trial.output(SAMPLES), info, loss, trial.name, SAMPLES)
    trained = trial.output(SAMPLES, training=True)
    further = trained if auxiliary and isinstance(trained, Mapping) else {"": trained}
    for one, output in further.items():
        place = f"{trial.name} in training mode" + (f", output {one!r}," if one else "")
        _checked_shape(output, info, loss, place, SAMPLES)
    return {one: tuple(shape[1:]) for one, shape in found.items()} if isinstance(found, dict) else tuple(found[1:])


def refusal_of_one(model: nn.Module, info: DataInfo, loss: str = "auto", *, training: bool = True) -> str | None:
    """Why the model fails on a batch of one sample; None if it does not.

    Batch normalisation has no variance of one sample, and a `squeeze()` takes the sample's dimension with it.

    Args:
        model: one that passes `check_fit`; it is left as it was.
        info: what a sample looks like.
        loss: the configuration's `training.loss`.
        training: whether it trains; else it is evaluated.
    """
    trial = _Trial(model, info)
    try:
        _checked_shape(trial.output(1, training=training), info, loss, trial.name, 1)
    except ModelError as error:
        if error.__cause__ is None:
            return str(error)
        line = told(error.__cause__)
        return line.partition(": ")[2] or line
    return None


def moved_statistic(model: nn.Module, info: DataInfo) -> str | None:
    """The first float buffer that a forward pass in training mode changes, such as a running mean; None if none is.

    Args:
        model: one that passes `check_fit`; it is left as it was.
        info: what a sample looks like.
    """
    return _Trial(model, info).moved()


class _Trial:
    """A copy of a model, on `meta`, to run blank samples through."""

    def __init__(
        self, model: nn.Module, info: DataInfo, name: str | None = None, auxiliary: Iterable[str] = ()
    ) -> None:
        self.name, self._info = name or type(model).__name__, info
        check_trainable(model, name=self.name)
        self._state = {**dict(model.named_parameters()), **dict(model.named_buffers())}
        self._copy = Blueprint.of(model, calling=Calling.of(model, info, auxiliary=auxiliary)).on_meta()
        self._ids_on_meta = is_transformer(model)  # whose vocabulary is known from its configuration
        self._modes = TrainingModes(self._copy)

    def output(self, samples: int, *, training: bool = False) -> object:
        """The model's output for a number of blank samples.

        Raises:
            ModelError: it raises an error, on `meta` and with values.
        """
        x, failure = blank_samples(self._info, samples), ModelError()
        if training:
            self._modes.train()
        else:
            self._copy.eval()
        # The caller's generators stay where they are. While it trains, a forward pass may look at gradients.
        with torch.set_grad_enabled(training), exclusive_torch():
            for with_values in self._ways():
                try:
                    return self._with_values(x, training) if with_values else self._on_meta(x)
                except ModelError as error:
                    failure = error if with_values else failure
        raise failure

    def _ways(self) -> tuple[bool, ...]:
        """Whether to try it with values, one way after the other."""
        if self._info.input_kind in ("tokens", "record") and not self._ids_on_meta:
            return (True,)  # the meta device does not look at ids
        light = sum(tensor.nbytes for tensor in self._state.values()) <= LIGHT
        return (True, False) if light else (False, True)

    def _on_meta(self, x: Tensor) -> object:
        with user_code(f"model {self.name}", ModelError):
            return self._copy(x.to("meta"))

    def _with_values(self, x: Tensor, training: bool) -> object:
        values = {name: _values(tensor) for name, tensor in self._state.items()}
        place = f"model {self.name} does not accept {_samples(self._info)}{' in training mode' if training else ''}"
        try:
            with user_code(place, ModelError):
                return functional_call(self._copy, values, (x.to(next(iter(values.values())).device),))
        except ModelError as error:
            line = told(error.__cause__ or error)
            if self._ids_on_meta and (why := unsupported(self._copy)) is not None:
                error.args = (f"model {self.name}: {why} ({line[:160]})",)
            else:
                error.args = (f"{error}{_remark(self._info, line)}",)
            raise

    def moved(self) -> str | None:
        """The first float buffer that a forward pass in training mode changes."""
        statistics = [name for name, one in self._copy.named_buffers() if one.is_floating_point()]
        if not statistics:
            return None
        values = {name: torch.zeros_like(one, device="cpu") for name, one in self._copy.named_parameters()}
        values |= {name: torch.ones_like(one, device="cpu") for name, one in self._copy.named_buffers()}
        before = {name: values[name].clone() for name in statistics}
        self._modes.train()
        with torch.no_grad(), exclusive_torch(), suppress(Exception):  # what fails has been seen by `check_fit`
            functional_call(self._copy, values, (blank_samples(self._info, SAMPLES),))
        return next((name for name in statistics if not torch.equal(values[name], before[name])), None)


def blank_samples(info: DataInfo, samples: int) -> Tensor:
    """Samples of zeros; of the largest ids there are, so that an embedding that is too small shows."""
    shape = (samples, *info.input_shape)
    if info.input_kind == "record":
        return largest_record(info, samples)
    if info.input_kind == "tokens":
        return torch.full(shape, (info.vocabulary or 1) - 1, dtype=torch.int64)
    return torch.zeros(shape, dtype=torch.float32)


def _samples(info: DataInfo) -> str:
    if info.input_kind == "record":
        return "the inputs " + ", ".join(f"{field.name} {list(field.shape)}" for field in info.inputs)
    return f"{'tokens' if info.input_kind == 'tokens' else 'inputs'} of shape {info.input_shape}"


def _remark(info: DataInfo, line: str) -> str:
    """What the type of the samples is taken for, where the error may come of that."""
    if info.input_kind == "tokens" and "dtype" in line:
        return "; integers are taken for token ids: give features as float32"
    if info.input_kind == "tokens" and "range" in line:
        return f"; token ids go up to {(info.vocabulary or 1) - 1}"
    return "; floats are taken for features: give token ids as integers" if "indices" in line else ""


def _values(tensor: Tensor) -> Tensor:
    found = torch.zeros(tensor.shape, dtype=tensor.dtype) if tensor.is_meta else tensor.detach().clone()
    return found.requires_grad_(tensor.requires_grad)


def _checked_shape(
    output: object, info: DataInfo, loss: str, name: str, samples: int
) -> list[int] | dict[str, list[int]]:
    inputs = f"{[samples, *info.input_shape]}" if info.input_kind != "record" else _samples(info)
    if isinstance(output, Mapping) and is_own_loss(loss):
        several = {str(one): list(tensor.shape) for one, tensor in entries(output).items()}
        if several and all(shape[:1] == [samples] for shape in several.values()):
            return several
    if not isinstance(output, Tensor):
        raise ModelError(
            f"model {name} maps {inputs} to a {type(output).__name__}; it must return one tensor, or a mapping or a "
            "dataclass with one, or one called logits"
        )
    found, outputs = list(output.shape), output_shape(info, loss)
    fits = [[samples, *outputs]]
    if outputs == info.target_shape:  # one number a target; a last dimension of one is as good, or a second
        fits += [[samples, *outputs, 1], [samples, 1, *outputs]]
    elif info.target_shape:  # classes last, or second, as torch has them
        fits.append([samples, outputs[-1], *outputs[:-1]])
    if found not in fits and not (is_own_loss(loss) and found[:1] == [samples]):
        expected = str(fits[0]) if len(info.target_shape) < 2 or len(fits) > 2 else f"{fits[-1]}, or {fits[0]}"
        reason = _reason(info, loss) + _advice(info, found)
        raise ModelError(f"model {name} maps {inputs} to {found}, but {reason} (expected {expected})")
    return found


def _advice(info: DataInfo, found: list[int]) -> str:
    """What targets of several labels a sample may have been meant as, where the output has one value for each."""
    if info.classes == 2 and found == [SAMPLES, *info.target_shape]:
        several = "for several yes-or-no labels a sample set training.loss: binary_cross_entropy"
        return f"; {several}, for one-hot labels give y.argmax(1)"
    return ""


def _reason(info: DataInfo, loss: str) -> str:
    if is_own_loss(loss):
        return "the first dimension must be the sample's"
    if loss == "binary_cross_entropy":
        return "binary_cross_entropy wants one logit for each target"
    if info.classes is None:
        return f"the data's targets have shape {info.target_shape}"
    each = f" for each of {info.target_shape} targets" if info.target_shape else ""
    return f"the data has {info.classes} classes{each}"
