"""Whether a model fits the data is known before the first round."""

from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from raysim.config.model import LstmCharConfig, MlpConfig, SoftmaxConfig
from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.models import build_model, check_fit, fit, model_on_meta, refusal_of_one

IMAGES = DataInfo("classification", (1, 28, 28), "pixels", classes=10)
FLAT = DataInfo("classification", (784,), "real", classes=10)
BINARY = DataInfo("classification", (4,), "real", classes=2)
NUMBER = DataInfo("regression", (4,), "real")
VECTOR = DataInfo("regression", (4,), "real", target_shape=(3,))
TEXT = DataInfo("classification", (6,), "tokens", target_shape=(6,), classes=9, vocabulary=9)


@pytest.fixture(params=["light", "heavy"])
def _weight(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """A model that is tried with values first, or as if it were too large for that."""
    if request.param == "heavy":
        monkeypatch.setattr(fit, "LIGHT", -1)


class Counting(nn.Module):
    """Needs values, draws random numbers, and notes whether it ran in training mode."""

    def __init__(self) -> None:
        super().__init__()
        self.linear = nn.Linear(4, 2)
        self.norm = nn.BatchNorm1d(2)
        self.modes: list[bool] = []

    def forward(self, x: Tensor) -> Tensor:
        self.modes.append(self.training)
        shift = float(torch.rand(1).item() * 0)
        return self.norm(self.linear(x)) + shift


class TwoOutputs(nn.Linear):
    def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
        return super().forward(x), x


class Mixing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        return super().forward(x).sum(0)


class Refusing(nn.Linear):
    def forward(self, x: Tensor) -> Tensor:
        raise KeyError("no\nreason")


@pytest.mark.usefixtures("_weight")
@pytest.mark.parametrize(
    ("model", "info", "loss", "shape"),
    [
        (build_model(MlpConfig(), IMAGES, seed=0), IMAGES, "auto", (10,)),
        (build_model(LstmCharConfig(hidden=4), TEXT, seed=0), TEXT, "auto", (6, 9)),
        (nn.Linear(4, 2), BINARY, "cross_entropy", (2,)),
        (nn.Linear(4, 1), BINARY, "binary_cross_entropy", (1,)),
        (build_model(SoftmaxConfig(), BINARY, seed=0, loss="binary_cross_entropy"), BINARY, "binary_cross_entropy", ()),
        (nn.Linear(4, 1), NUMBER, "mse", (1,)),
        (nn.Linear(4, 3), VECTOR, "huber", (3,)),
        (nn.Embedding(9, 9), TEXT, "auto", (6, 9)),
        (nn.Linear(4, 7), NUMBER, "my.losses:quantiles", (7,)),
        (Counting(), BINARY, "auto", (2,)),
        (model_on_meta(MlpConfig(), IMAGES), IMAGES, "auto", (10,)),
        (model_on_meta(LstmCharConfig(hidden=4), TEXT), TEXT, "auto", (6, 9)),
        (Counting().to("meta"), BINARY, "auto", (2,)),
    ],
)
def test_a_model_that_fits_tells_its_output_shape(
    model: nn.Module, info: DataInfo, loss: str, shape: tuple[int, ...]
) -> None:
    assert check_fit(model, info, loss) == shape


def test_checking_leaves_modes_weights_buffers_and_generator_alone() -> None:
    model = Counting()
    model.norm.eval()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    state = torch.random.get_rng_state()
    check_fit(model, BINARY)
    assert torch.equal(state, torch.random.get_rng_state())
    assert model.training
    assert not model.norm.training
    assert not any(model.modes)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(p.device.type == "cpu" and p.requires_grad for p in model.parameters())


@pytest.mark.usefixtures("_weight")
@pytest.mark.parametrize(
    ("model", "info", "loss", "line"),
    [
        (nn.Linear(784, 12), FLAT, "auto", r"model mine maps \[2, 784\] to \[2, 12\], but the data has 10 classes "),
        (nn.Linear(4, 2), BINARY, "binary_cross_entropy", r"to \[2, 2\], but binary_cross_entropy wants one logit"),
        (nn.Linear(4, 1), BINARY, "auto", r"the data has 2 classes \(expected \[2, 2\]\)"),
        (nn.Linear(4, 2), VECTOR, "mse", r"the data's targets have shape \(3,\) \(expected \[2, 3\]\)"),
        (Mixing(4, 3), BINARY, "my.losses:own", r"to \[3\], but the first dimension must be the sample's"),
        (
            nn.Linear(7, 2),
            BINARY,
            "auto",
            r"model mine does not accept inputs of shape \(4,\): RuntimeError: mat1 and mat2",
        ),
        (nn.Embedding(8, 9), TEXT, "auto", r"does not accept tokens of shape \(6,\): IndexError: index out of range"),
        (nn.Embedding(8, 9, device="meta"), TEXT, "auto", "index out of range"),
        (nn.Embedding(9, 5), TEXT, "auto", r"the data has 9 classes for each of \(6,\) targets"),
        (TwoOutputs(4, 2), BINARY, "auto", r"maps \[2, 4\] to a tuple; it must return one tensor"),
        (Refusing(4, 2), BINARY, "auto", r"does not accept inputs of shape \(4,\): KeyError: 'no"),
        (nn.Linear(4, 2).half(), BINARY, "auto", r"'weight' is torch.float16; make it float32 with `.float\(\)`"),
        (nn.ReLU(), BINARY, "auto", "model mine has no trainable parameters"),
    ],
)
def test_a_model_that_does_not_fit_is_one_line(model: nn.Module, info: DataInfo, loss: str, line: str) -> None:
    with pytest.raises(ModelError, match=line) as caught:
        check_fit(model, info, loss, name="mine")
    assert "\n" not in str(caught.value)


def test_an_unnamed_model_is_called_by_its_class() -> None:
    with pytest.raises(ModelError, match="model Linear maps"):
        check_fit(nn.Linear(4, 5), BINARY)


class Auxiliary(nn.Module):
    """Returns something else while it trains."""

    def __init__(self, kind: str) -> None:
        super().__init__()
        self.kind, self.main, self.side = kind, nn.Linear(4, 2), nn.Linear(4, 3)

    def forward(self, x: Tensor) -> object:
        if self.training and self.kind == "pair":
            return self.main(x), self.side(x)
        if self.training and self.kind == "wide":
            return self.side(x)
        if self.training and self.kind == "broken":
            raise RuntimeError("no such\nlayer")
        return self.main(x)


@pytest.mark.usefixtures("_weight")
@pytest.mark.parametrize(
    ("kind", "line"),
    [
        ("pair", r"model mine in training mode maps \[2, 4\] to a tuple; it must return one tensor"),
        ("wide", r"model mine in training mode maps \[2, 4\] to \[2, 3\], but the data has 2 classes"),
        ("broken", r"model mine does not accept inputs of shape \(4,\) in training mode: RuntimeError: no such layer$"),
    ],
)
def test_what_a_model_does_in_training_mode_alone_is_known_before_it_trains(kind: str, line: str) -> None:
    with pytest.raises(ModelError, match=line):
        check_fit(Auxiliary(kind), BINARY, name="mine")


def test_a_submodule_in_evaluation_mode_is_tried_in_it() -> None:
    model = nn.Sequential(nn.Linear(4, 2), Auxiliary("pair"))
    model[1].main = nn.Linear(2, 2)
    model[1].eval()
    assert check_fit(model, BINARY) == (2,)


class Penalised(nn.Module):
    """Looks at a gradient of its own, and remembers what it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.main, self.seen = nn.Linear(4, 2), None

    def forward(self, x: Tensor) -> Tensor:
        out: Tensor = self.main(x)
        self.seen = out
        if self.training:
            (slope,) = torch.autograd.grad(out.sum(), self.main.weight, create_graph=True)
            out = out + slope.sum()
        return out


def test_a_forward_pass_may_look_at_gradients_and_leaves_nothing_in_the_module() -> None:
    model = Penalised()
    assert check_fit(model, BINARY) == (2,)
    assert model.seen is None


@pytest.mark.parametrize(
    ("model", "reason"),
    [
        (nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2)), "Expected more than 1 value per channel when training"),
        (nn.Sequential(nn.Linear(4, 2), nn.BatchNorm1d(2).eval()), None),
        (nn.Sequential(nn.Linear(4, 2), nn.LayerNorm(2)), None),
    ],
)
def test_a_model_that_refuses_a_batch_of_one_says_why(model: nn.Module, reason: str | None) -> None:
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = refusal_of_one(model, BINARY)
    assert (found is None) if reason is None else (found is not None and found.startswith(reason))
    assert all(torch.equal(value, before[name]) for name, value in model.state_dict().items())
