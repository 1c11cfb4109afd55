"""Every form of model, loss and metric trains to the numbers of a plain torch loop, and what is refused is one line."""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forms import OWNERS, PARTS, Form, X, Y, check, experiment, linear, plain_averaging, train
from image_library import create_model, tiny_net
from torch import Tensor, nn

from raysim import Simulation
from raysim.errors import RaysimError
from raysim.training.metrics import MeanMetric

BOTH = ("sequential", "rows")
LIBRARY = "image_library"
"""Stands in for torchvision and timm, whose models are made by functions with arguments."""
XS, YS = torch.from_numpy(X), torch.from_numpy(Y)
ARRAYS = {"x": X, "y": Y, "client": OWNERS}
PIXELS = np.random.default_rng(4).normal(size=(20, 1, 4, 4)).astype(np.float32)
MASKS = (PIXELS[:, 0] > 0.3).astype(int)
LABELS = (X > 0).astype(int)
BOXES = np.random.default_rng(5).random((20, 3, 5)).astype(np.float32)
IDS = np.random.default_rng(6).integers(0, 5, (20, 3))


@dataclass
class Answer:
    """What a forward pass may return: the loss, where targets are given, and logits."""

    logits: Tensor
    loss: Tensor | None = None


class Named(NamedTuple):
    logits: Tensor
    hidden: Tensor


class Wrapped(nn.Module):
    """A layer whose output is wrapped into something."""

    def __init__(self, wrap: Callable[[Tensor, Tensor], Any]) -> None:
        super().__init__()
        self.inner, self.wrap = linear(), wrap

    def forward(self, x: Tensor) -> Any:
        return self.wrap(self.inner(x), x)


class Heads(nn.Module):
    """Two outputs, none of which is the only one."""

    def __init__(self) -> None:
        super().__init__()
        self.classes, self.size = linear(), linear(4, 1)

    def forward(self, x: Tensor) -> dict[str, Tensor]:
        return {"classes": self.classes(x), "size": self.size(x).squeeze(-1)}


class Auxiliary(nn.Module):
    """A second output while it trains."""

    def __init__(self) -> None:
        super().__init__()
        self.inner, self.main, self.side = linear(4, 6), linear(6), linear(6)

    def forward(self, x: Tensor) -> Any:
        hidden = self.inner(x).tanh()
        return {"out": self.main(hidden), "aux": self.side(hidden)} if self.training else {"out": self.main(hidden)}


class Step(nn.Module):
    """A module in the manner of Lightning."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def training_step(self, batch: Any, batch_idx: int) -> dict[str, Tensor]:
        x, y = batch
        return {"loss": F.cross_entropy(self(x), y, label_smoothing=0.2)}


class Labelled(nn.Module):
    """A module that computes its loss where it is given labels."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear()

    def forward(self, x: Tensor, labels: Tensor | None = None) -> Answer:
        logits = self.inner(x)
        return Answer(logits, None if labels is None else F.multi_margin_loss(logits, labels))


class Words(nn.Module):
    """The mean embedding of a sample's ids, of which there are more than any sample has."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(2)
        self.words, self.output = nn.Embedding(9, 4), linear()

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.words(x).mean(1))


def of_heads(output: dict[str, Tensor], target: Tensor) -> Tensor:
    return F.cross_entropy(output["classes"], target, reduction="none") + (output["size"] - 1).square()


def of_boxes(output: Tensor, target: Tensor) -> Tensor:
    """Classes and corners of the boxes of an image, `[n, 3, 5]`, to a loss a sample."""
    found = output.view(-1, 3, 5)
    corners = F.smooth_l1_loss(found[..., 1:], target[..., 1:], reduction="none").sum((1, 2))
    return corners + F.binary_cross_entropy_with_logits(found[..., 0], target[..., 0], reduction="none").mean(1)


def smoothed(output: Tensor, target: Tensor) -> Tensor:
    return F.cross_entropy(output, target, reduction="none", label_smoothing=0.1)


def in_one(output: Tensor, target: Tensor) -> Tensor:
    """One number a batch, which is no mean over samples."""
    return F.cross_entropy(output, target) + 0.1 * output.mean(0).square().sum()


def hits(output: Tensor, target: Tensor) -> Tensor:
    return (output.argmax(-1) == target).float()


def plain(
    loss: Callable[[Any, Tensor], Tensor], x: Tensor = XS, y: Tensor = YS
) -> Callable[[nn.Module, slice], Tensor]:
    return lambda module, rows: loss(module(x[rows]), y[rows]).mean()


def of_auxiliary(module: nn.Module, rows: slice) -> Tensor:
    output = module(XS[rows])
    return F.cross_entropy(output["out"], YS[rows]) + 0.4 * F.cross_entropy(output["aux"], YS[rows])


WEIGHTS = torch.tensor([1.0, 2.0, 0.5])
BY_CLASS = nn.CrossEntropyLoss(weight=WEIGHTS)
MODEL_LOSS = {"training": {"loss": "model"}}
FORMS: dict[str, Form] = {
    "a mapping with logits": Form(
        lambda: ARRAYS, plain(lambda o, y: F.cross_entropy(o["logits"], y)),
        lambda: Wrapped(lambda out, x: {"hidden": x, "logits": out}), engines=BOTH,
    ),
    "a dataclass": Form(
        lambda: ARRAYS, plain(lambda o, y: F.cross_entropy(o.logits, y)),
        lambda: Wrapped(lambda out, x: Answer(out)),
    ),
    "a named tuple": Form(
        lambda: ARRAYS, plain(lambda o, y: F.cross_entropy(o.logits, y)), lambda: Wrapped(Named)
    ),
    "several outputs": Form(
        lambda: ARRAYS, plain(of_heads), Heads, {"evaluation": {"metrics": []}}, lambda: {"loss": of_heads}, BOTH
    ),
    "a function": Form(lambda: ARRAYS, plain(smoothed), handed=lambda: {"loss": smoothed}, engines=BOTH),
    "a loss module": Form(
        lambda: ARRAYS, plain(nn.CrossEntropyLoss(label_smoothing=0.3)),
        handed=lambda: {"loss": nn.CrossEntropyLoss(label_smoothing=0.3)}, engines=BOTH,
    ),
    "a loss module by its class": Form(
        lambda: ARRAYS | {"y": X[:, 0]}, plain(nn.L1Loss(), y=XS[:, :1]), lambda: linear(4, 1),
        {"training": {"loss": "torch.nn:L1Loss"}},
    ),
    "a loss module that weighs classes": Form(lambda: ARRAYS, plain(BY_CLASS), handed=lambda: {"loss": BY_CLASS}),
    "one number a batch": Form(lambda: ARRAYS, plain(in_one), handed=lambda: {"loss": in_one}),
    "a training step": Form(
        lambda: ARRAYS, plain(lambda o, y: F.cross_entropy(o, y, label_smoothing=0.2)), Step, MODEL_LOSS
    ),
    "a forward pass with labels": Form(
        lambda: ARRAYS, plain(lambda o, y: F.multi_margin_loss(o.logits, y)), Labelled, MODEL_LOSS
    ),
    "auxiliary outputs": Form(
        lambda: ARRAYS, of_auxiliary, Auxiliary, {"training": {"auxiliary": {"aux": 0.4}}}, engines=BOTH
    ),
    "a class for each pixel": Form(
        lambda: {"x": PIXELS, "y": MASKS, "client": OWNERS},
        plain(F.cross_entropy, torch.from_numpy(PIXELS), torch.from_numpy(MASKS)), lambda: nn.Conv2d(1, 2, 1),
    ),
    "several labels": Form(
        lambda: {"x": X, "y": LABELS, "client": OWNERS},
        plain(lambda o, y: F.binary_cross_entropy_with_logits(o, y.float()), y=torch.from_numpy(LABELS)),
        lambda: linear(4, 4), {"training": {"loss": "binary_cross_entropy"}},
    ),
    "boxes": Form(
        lambda: {"x": X, "y": BOXES, "client": OWNERS}, plain(of_boxes, y=torch.from_numpy(BOXES)),
        lambda: linear(4, 15), {"evaluation": {"metrics": []}}, lambda: {"loss": of_boxes}, BOTH,
    ),
    "ids that no sample has": Form(
        lambda: {"x": IDS, "y": Y, "client": OWNERS, "vocabulary": 9, "x_test": IDS + 4, "y_test": Y},
        plain(F.cross_entropy, torch.from_numpy(IDS)), Words, engines=BOTH,
    ),
    "a factory by name, as those of timm": Form(
        lambda: {"x": PIXELS, "y": Y, "client": OWNERS}, plain(F.cross_entropy, torch.from_numpy(PIXELS)),
        lambda: create_model("tiny", in_chans=1, num_classes=3),
        {"model": {"name": f"{LIBRARY}:create_model", "args": {"model_name": "tiny", "in_chans": 1, "num_classes": 3}}},
        by_name=True,
    ),
    "a model by name, as those of torchvision": Form(
        lambda: {"x": PIXELS, "y": Y, "client": OWNERS}, plain(F.cross_entropy, torch.from_numpy(PIXELS)),
        lambda: tiny_net(num_classes=3), {"model": {"name": f"{LIBRARY}:tiny_net", "args": {"num_classes": 3}}},
        by_name=True,
    ),
}  # fmt: skip


@pytest.fixture(autouse=True)
def _seeded() -> None:
    torch.manual_seed(9)


def seeded_again(form: Form) -> Form:
    """With a module that is drawn the same each time."""

    def module() -> nn.Module:
        torch.manual_seed(9)
        return form.module()

    return replace(form, module=module)


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_model_trains_to_the_numbers_of_a_plain_loop(name: str, tmp_path: Path) -> None:
    form = seeded_again(FORMS[name])
    for engine in form.engines:
        check(form, engine, tmp_path / engine)


def test_a_loss_of_the_model_is_evaluated_as_it_is_and_the_numbers_are_those_of_all_test_samples(
    tmp_path: Path,
) -> None:
    form = Form(lambda: ARRAYS | {"x_test": X, "y_test": Y}, FORMS["a training step"].loss, Step, MODEL_LOSS)
    _, metrics = train(form, "auto", tmp_path / "run")
    expected = plain_averaging(Step(), form.loss)
    assert metrics["test/loss"] == pytest.approx(form.loss(expected, slice(0, 20)).item(), rel=1e-5)


def test_a_module_of_lightning_trains_on_the_loss_of_its_training_step(tmp_path: Path) -> None:
    lightning = pytest.importorskip("pytorch_lightning")

    class Module(lightning.LightningModule):  # type: ignore[misc, name-defined]
        def __init__(self) -> None:
            super().__init__()
            self.inner = linear()

        def training_step(self, batch: Any, batch_idx: int) -> Tensor:
            x, y = batch
            loss = F.cross_entropy(self.inner(x), y)
            self.log("train_loss", loss)
            return loss

        def forward(self, x: Tensor) -> Tensor:
            return self.inner(x)

    check(Form(lambda: ARRAYS, plain(F.cross_entropy), Module, MODEL_LOSS), "sequential", tmp_path / "run")


class Brier(MeanMetric):
    """A metric of the user's own."""

    name = "brier_error"
    higher_is_better = False

    def measure(self, output: Tensor, target: Tensor, losses: Tensor) -> Tensor:
        return (output.softmax(-1) - F.one_hot(target, 3)).square().sum(-1)


class Share:
    """Has the interface of a metric of torchmetrics whose states are sums."""

    def __init__(self) -> None:
        self._defaults = {"right": torch.tensor(0), "all": torch.zeros(1)}
        self._reductions = {"right": _named("dim_zero_sum"), "all": _named("dim_zero_sum")}
        self.higher_is_better = True

    def clone(self) -> Share:
        return copy.deepcopy(self)

    def reset(self) -> None:
        self.right, self.all = torch.tensor(0), torch.zeros(1)

    def update(self, output: Tensor, target: Tensor) -> None:
        self.right += (output.argmax(-1) == target).sum()
        self.all += len(target)

    def compute(self) -> Tensor:
        assert self.right.dtype == torch.int64
        return self.right / self.all

    def to(self, device: Any) -> Share:
        return self


def _named(name: str) -> Callable[[Tensor], Tensor]:
    def reduction(values: Tensor) -> Tensor:
        return values

    reduction.__name__ = name
    return reduction


def test_metrics_that_are_handed_over_measure_what_plain_code_measures(tmp_path: Path) -> None:
    data = ARRAYS | {"x_test": X, "y_test": Y, "client_test": OWNERS}
    metrics = [hits, Brier, Share()]
    form = Form(lambda: data, handed=lambda: {"metrics": metrics}, settings={"evaluation": {"metrics": ["accuracy"]}})
    module, found = train(form, "sequential", tmp_path / "run")
    with torch.no_grad():
        right = (module(XS).argmax(1) == YS).double()
        brier = (module(XS).softmax(1) - F.one_hot(YS, 3)).square().sum(1).mean()
    assert found["test/hits"] == found["test/accuracy"] == right.mean().item()
    assert found["test/share"] == pytest.approx(right.mean().item())
    assert found["test/brier_error"] == pytest.approx(brier.item(), rel=1e-6)
    each = np.mean([right[rows].mean().item() for rows in PARTS])
    assert found["clients/test/share/mean"] == pytest.approx(each)


def test_metrics_of_torchmetrics_are_those_that_it_computes_itself(tmp_path: Path) -> None:
    torchmetrics = pytest.importorskip("torchmetrics")
    own = torchmetrics.classification.MulticlassF1Score(num_classes=3, average="macro")
    form = Form(lambda: ARRAYS | {"x_test": X, "y_test": Y}, handed=lambda: {"metrics": [own]})
    module, found = train(form, "sequential", tmp_path / "run")
    own.update(module(XS).detach(), YS)
    assert found["test/multiclass_f1_score"] == pytest.approx(own.compute().item(), rel=1e-6)


def _keeps_all() -> Any:
    metric = Share()
    metric._reductions["all"] = _named("dim_zero_cat")
    return metric


BY_HAND = type("ByHand", (Step,), {"automatic_optimization": False})
NO_LOSS = type("NoLoss", (Step,), {"training_step": lambda self, batch, batch_idx: None})
REFUSED: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "a loss that is no function": ({"loss": 3}, {}, "training.loss: int is no function of (output, target)"),
    "a loss with parameters": ({"loss": linear()}, {}, "Linear has parameters, which would not be trained"),
    "a class that needs arguments": ({"loss": Form}, {}, "needs arguments"),
    "a loss of another shape": ({"loss": lambda o, y: o}, {}, "return one loss a sample or a target, shape [2]"),
    "a loss without a gradient": ({"loss": lambda o, y: o.detach().sum(1)}, {}, "has no gradient"),
    "one number a batch in rows": ({"loss": in_one}, {"training": {"engine": "rows"}}, "engine: rows fills batches up"),
    "one number a batch and weights": (
        {"loss": in_one, "data": ARRAYS | {"weight": np.ones(20)}}, {}, "number a batch, and samples have weights",
    ),
    "one number a batch and class weights": (
        {"loss": in_one}, {"training": {"class_weights": "inverse"}}, "training.class_weights weighs samples",
    ),
    "a model without a loss": ({}, MODEL_LOSS, "has no training_step, and its forward pass takes none of"),
    "a model that optimises by hand": ({"model": BY_HAND()}, MODEL_LOSS, "ByHand optimises by hand in its"),
    "a step without a loss": ({"model": NO_LOSS()}, MODEL_LOSS, "returned a NoneType as the loss of its training_step"),
    "an unknown auxiliary output": (
        {"model": Auxiliary()}, {"training": {"auxiliary": {"side": 0.4}}}, "has no 'side': has out, aux",
    ),
    "an auxiliary output of a chain": (
        {"model": nn.Sequential(linear())}, {"training": {"auxiliary": {"aux": 0.4}}}, "pass returns one tensor",
    ),
    "several outputs without a loss of one's own": ({"model": Heads()}, {}, "it must return one tensor"),
    "a metric that is none": ({"metrics": [3]}, {}, "int is a int; expected a subclass of"),
    "a metric that keeps all samples": ({"metrics": [_keeps_all()]}, {}, "keeps 'all', which is no sum over samples"),
    "a metric of a batch": ({"metrics": [in_one]}, {}, "it returned one number for the batch; return one a sample"),
    "two metrics of one name": ({"metrics": [hits, hits]}, {}, "two metrics are called 'hits'"),
    "an id beyond the vocabulary": (
        {"data": {"x": IDS, "y": Y, "vocabulary": 4}, "model": Words()}, {}, "the token id 4, but 'vocabulary' is 4",
    ),
    "a test id that training has not": (
        {"data": {"x": IDS, "y": Y, "x_test": IDS + 2, "y_test": Y}, "model": Words()}, {},
        "outside the training ids 0..4; say by 'vocabulary'",
    ),
    "a vocabulary of numbers": ({"data": ARRAYS | {"vocabulary": 4}}, {}, "'vocabulary' is for token ids, and x"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_is_refused_is_one_line(name: str, tmp_path: Path) -> None:
    given, settings, line = REFUSED[name]
    given = {"model": linear(), "data": ARRAYS, **given}
    setting = experiment("auto", settings)
    if "vocabulary" in line or "outside" in line:
        setting = setting.updated(["data.partition={name: iid, clients: 2}"])
    with pytest.raises(RaysimError) as caught:
        Simulation(setting, directory=tmp_path / "run", **given)
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_a_run_with_a_loss_of_ones_own_goes_on_with_the_same_and_not_without(tmp_path: Path) -> None:
    given = {"model": linear(), "data": ARRAYS}
    setting = experiment("sequential", {})
    with Simulation(setting, loss=smoothed, directory=tmp_path / "whole", **given) as whole:
        whole.run()
        expected = whole.model()
    with Simulation(setting, loss=smoothed, directory=tmp_path / "run", **given) as half:
        next(iter(half))
    with pytest.raises(RaysimError, match="started with a loss of your own; pass it again as loss="):
        Simulation.resume(tmp_path / "run", **given)
    with Simulation.resume(tmp_path / "run", loss=smoothed, **given) as resumed:
        resumed.run()
        for one, other in zip(resumed.model().parameters(), expected.parameters(), strict=True):
            assert torch.equal(one, other)


@pytest.mark.usefixtures("ray_session")
def test_on_ray_what_is_handed_over_reaches_the_actors(tmp_path: Path) -> None:
    def own_loss(output: Tensor, target: Tensor) -> Tensor:
        return F.cross_entropy(output, target, reduction="none", label_smoothing=0.1)

    def right(output: Tensor, target: Tensor) -> Tensor:
        return (output.argmax(-1) == target).float()

    form = Form(
        lambda: ARRAYS | {"x_test": X, "y_test": Y},
        plain(smoothed),
        handed=lambda: {"loss": own_loss, "metrics": [right]},
        settings={"execution": {"actors": 1}},
    )
    assert "test/right" in check(form, "sequential", tmp_path / "run", executor="ray")
