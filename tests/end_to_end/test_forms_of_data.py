"""Every form in which data may come trains to the numbers of a plain torch loop, and what is refused is one line."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from forms import OWNERS, PARTS, Form, X, Y, check, experiment, linear, plain_averaging, train
from torch import Tensor, nn
from torch.utils.data import DataLoader, TensorDataset
from torch.utils.data import Dataset as TorchDataset

from raysim import Simulation
from raysim.data import padded, windows
from raysim.errors import DataError
from raysim.execution.preparation.prepare import prepare_job

LENGTHS = np.array([3, 1, 5, 2] * 5)
STEPS = [X[i, :1].repeat(n)[:, None] + np.arange(n, dtype=np.float32)[:, None] for i, n in enumerate(LENGTHS)]
CLASSES = [(steps[:, 0] > 1).astype(int) for steps in STEPS]
FLOATS = (X[:, 0] > 0).astype(np.float32)
WEIGHT = np.linspace(0.0, 2.0, 20).astype(np.float32)
IMAGES = np.random.default_rng(2).integers(0, 256, (20, 1, 4, 4), dtype=np.uint8)


class Entries(TorchDataset[Any]):
    """Samples as mappings of names to values."""

    def __init__(self, rows: slice = slice(0, 20), **columns: Any) -> None:
        self.columns = {name: values[rows] for name, values in columns.items()}

    def __len__(self) -> int:
        return len(next(iter(self.columns.values())))

    def __getitem__(self, i: int) -> dict[str, Any]:
        return {name: values[i] for name, values in self.columns.items()}


class Pairs(TorchDataset[Any]):
    """Samples as pairs."""

    def __init__(self, x: Any, y: Any) -> None:
        self.x, self.y = x, y

    def __len__(self) -> int:
        return len(self.y)

    def __getitem__(self, i: int) -> tuple[Any, Any]:
        return self.x[i], self.y[i]


class TwoInputs(nn.Module):
    """Takes two inputs by name."""

    def __init__(self) -> None:
        super().__init__()
        self.first, self.second = linear(2), linear(2)

    def forward(self, left: Tensor, right: Tensor) -> Tensor:
        return self.first(left) + self.second(right).tanh()


class MaskedMean(nn.Module):
    """The mean of a sequence's real steps."""

    def __init__(self) -> None:
        super().__init__()
        self.output = linear(1)

    def forward(self, x: Tensor, real: Tensor) -> Tensor:
        weight = real.unsqueeze(-1).to(x.dtype)
        return self.output((x * weight).sum(1) / weight.sum(1))


def sets() -> dict[str, Any]:
    return {
        name: TensorDataset(torch.from_numpy(X[rows]), torch.from_numpy(Y[rows]))
        for name, rows in zip("ab", PARTS, strict=True)
    }


def two_inputs(module: nn.Module, rows: slice) -> Tensor:
    left, right = torch.from_numpy(X[rows, :2]), torch.from_numpy(X[rows, 2:])
    return F.cross_entropy(module(left, right), torch.from_numpy(Y[rows]))


def of_means(module: nn.Module, rows: slice) -> Tensor:
    means = torch.tensor([[float(steps.mean())] for steps in STEPS[rows]])
    output: Any = module.output
    return F.cross_entropy(output(means), torch.from_numpy(Y[rows]))


def of_steps(module: nn.Module, rows: slice) -> Tensor:
    """Steps of a client as one long list: none is filled up."""
    x, y = np.concatenate(STEPS[rows]), np.concatenate(CLASSES[rows])
    return F.cross_entropy(module(torch.from_numpy(x)), torch.from_numpy(y))


def weighted(module: nn.Module, rows: slice) -> Tensor:
    losses = F.cross_entropy(module(torch.from_numpy(X[rows])), torch.from_numpy(Y[rows]), reduction="none")
    weight = torch.from_numpy(WEIGHT[rows])
    return (losses * weight).sum() / weight.sum()


def logistic(module: nn.Module, rows: slice) -> Tensor:
    logits = module(torch.from_numpy(X[rows]))[:, 0]
    return F.binary_cross_entropy_with_logits(logits, torch.from_numpy(FLOATS[rows]))


def of_pixels(module: nn.Module, rows: slice) -> Tensor:
    return F.cross_entropy(module(torch.from_numpy(IMAGES[rows]).float() / 255), torch.from_numpy(Y[rows]))


def pillow(rows: slice = slice(0, 20)) -> Pairs:
    image = pytest.importorskip("PIL.Image")
    return Pairs([image.fromarray(one[0]) for one in IMAGES[rows]], Y[rows].tolist())


def image_model() -> nn.Module:
    return nn.Sequential(nn.Flatten(), linear(16))


HOURS = np.random.default_rng(3).normal(size=(2, 14, 2)).astype(np.float32)
"""A time series of each client."""
LABELS = np.random.default_rng(4).integers(0, 3, (20, 2))
BOXES = np.random.default_rng(4).random((20, 2, 2)).astype(np.float32)
THERE = np.random.default_rng(4).random((20, 2)) > 0.4
FOUND = {"boxes": BOXES, "labels": LABELS, "there": THERE}
"""Targets of a detector: boxes that are there, and the class of each."""


def series() -> dict[str, Any]:
    return {"clients": {name: windows(hours, hours[:, 0], length=4) for name, hours in zip("ab", HOURS, strict=True)}}


def of_series(module: nn.Module, rows: slice) -> Tensor:
    hours = torch.from_numpy(HOURS[0 if rows.start == 0 else 1])
    x = torch.stack([hours[i : i + 4] for i in range(10)])
    return F.mse_loss(module(x)[:, 0], hours[4:, 0])


def detector_loss(output: Tensor, target: Any) -> Tensor:
    """One loss a sample, of what is there: `[n, 2 boxes, 2 corners and 3 logits]`."""
    found = output.view(-1, 2, 5)
    corners = (found[..., :2] - target["boxes"]).abs().sum(-1)
    classes = F.cross_entropy(found[..., 2:].movedim(-1, 1), target["labels"], reduction="none")
    return ((corners + classes) * target["there"]).sum(-1)


def rightly(output: Tensor, target: Any) -> Tensor:
    """The share of boxes whose class is right."""
    return (output.view(-1, 2, 5)[..., 2:].argmax(-1) == target["labels"]).float().mean(-1)


def targets_of(rows: slice) -> dict[str, Tensor]:
    return {name: torch.from_numpy(values[rows]) for name, values in FOUND.items()}


def of_detector(module: nn.Module, rows: slice) -> Tensor:
    return detector_loss(module(torch.from_numpy(X[rows])), targets_of(rows)).mean()


class Detector(nn.Module):
    """Computes its loss of targets by name, as detectors of torchvision do."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = linear(4, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.inner(x)

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        x, targets = batch
        return detector_loss(self(x), targets).mean()


BOTH = ("sequential", "rows")
FORMS: dict[str, Form] = {
    "arrays by name": Form(lambda: {"x": X, "y": Y, "client": OWNERS}),
    "tensors": Form(lambda: {"x": torch.from_numpy(X), "y": torch.from_numpy(Y), "client": OWNERS}),
    "a data set of pairs, and owners": Form(lambda: {"train": Pairs(X, Y), "client": OWNERS}),
    "a data set of mappings": Form(lambda: {"train": Entries(values=X, label=Y), "client": OWNERS}),
    "mappings with owners": Form(
        lambda: {"train": Entries(values=X, grade=Y, ward=OWNERS, note=Y), "label": "grade", "client": "ward",
                 "inputs": ["values"]}
    ),
    "mappings with weights": Form(
        lambda: {"train": Entries(values=X, label=Y, w=WEIGHT, ward=OWNERS), "client": "ward", "weight": "w"}, weighted
    ),
    "mappings of several inputs": Form(
        lambda: {"train": Entries(left=X[:, :2], right=X[:, 2:], y=Y), "client": OWNERS}, two_inputs, TwoInputs
    ),
    "pairs of several inputs": Form(
        lambda: {"train": Pairs([{"left": one[:2], "right": one[2:]} for one in X], Y), "client": OWNERS},
        two_inputs,
        TwoInputs,
    ),
    "several inputs by name": Form(
        lambda: {"x": {"left": X[:, :2], "right": X[:, 2:]}, "y": Y, "client": OWNERS},
        two_inputs,
        TwoInputs,
        engines=BOTH,
    ),
    "data sets of clients by name": Form(lambda: {"clients": sets()}),
    "a list of clients": Form(lambda: {"clients": [Entries(rows, values=X, label=Y) for rows in PARTS]}),
    "pairs of arrays of clients": Form(lambda: {"clients": {7 + i: (X[one], Y[one]) for i, one in enumerate(PARTS)}}),
    "images of Pillow": Form(lambda: {"clients": [pillow(rows) for rows in PARTS]}, of_pixels, image_model),
    "sequences of different lengths": Form(
        lambda: {"x": STEPS, "y": Y, "client": OWNERS, "padding": -7, "mask": "real"},
        of_means,
        MaskedMean,
        engines=BOTH,
    ),
    "a data set of sequences of different lengths": Form(
        lambda: {"train": Pairs(STEPS, Y), "client": OWNERS, "padding": 0.5, "mask": "real"}, of_means, MaskedMean
    ),
    "a class for each step of sequences of different lengths": Form(
        lambda: {"x": STEPS, "y": CLASSES, "client": OWNERS, "padding": 0}, of_steps, lambda: linear(1, 2), engines=BOTH
    ),
    "weights of samples": Form(lambda: {"x": X, "y": Y, "client": OWNERS, "weight": WEIGHT}, weighted),
    "floats 0 and 1": Form(
        lambda: {"x": X, "y": FLOATS, "client": OWNERS}, logistic, lambda: linear(4, 1),
        {"training": {"loss": "binary_cross_entropy"}}, engines=BOTH,
    ),
    "windows of time series": Form(
        series, of_series, lambda: nn.Sequential(nn.Flatten(), linear(8, 1)), engines=BOTH,
        parts=(slice(0, 10), slice(10, 20)),
    ),
    "targets by name": Form(
        lambda: {"x": X, "y": FOUND, "client": OWNERS, "x_test": X, "y_test": FOUND}, of_detector,
        lambda: linear(4, 10), {"evaluation": {"metrics": []}},
        lambda: {"loss": detector_loss, "metrics": [rightly]}, engines=BOTH,
    ),
    "a data set with targets by name": Form(
        lambda: {"train": Pairs(X, [{name: one[i] for name, one in FOUND.items()} for i in range(20)]),
                 "client": OWNERS},
        of_detector, Detector, {"training": {"loss": "model"}},
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", FORMS)
def test_a_form_of_data_trains_to_the_numbers_of_a_plain_loop(name: str, tmp_path: Path) -> None:
    form = FORMS[name]
    for engine in form.engines:
        check(form, engine, tmp_path / engine)


def test_metrics_of_targets_by_name_are_functions_that_get_them_by_name(tmp_path: Path) -> None:
    module, metrics = train(FORMS["targets by name"], "sequential", tmp_path / "run")
    with torch.no_grad():
        expected = rightly(module(torch.from_numpy(X)), targets_of(slice(0, 20))).mean().item()
        loss = of_detector(module, slice(0, 20)).item()
    assert metrics["test/rightly"] == pytest.approx(expected, rel=1e-6)
    assert metrics["test/loss"] == pytest.approx(loss, rel=1e-6)


def test_metrics_of_a_transformed_target_are_in_its_own_units(tmp_path: Path) -> None:
    y = np.exp(X[:, 0] + 3).astype(np.float32)
    data = {"x": X, "y": y, "client": OWNERS, "x_test": X, "y_test": y}
    scaled = np.log1p(y.astype(float))
    scaled = torch.from_numpy((scaled - scaled.mean()) / scaled.std()).float()

    def loss(module: nn.Module, rows: slice) -> Tensor:
        return F.mse_loss(module(torch.from_numpy(X[rows]))[:, 0], scaled[rows])

    settings = {
        "data": {"transforms": [{"name": "target", "log1p": True}]},
        "evaluation": {"metrics": ["rmse", "mae"]},
    }
    form = Form(lambda: data, loss, lambda: linear(4, 1), settings)
    metrics = check(form, "sequential", tmp_path / "run")
    module = plain_averaging(linear(4, 1), loss)
    with torch.no_grad():
        predicted = module(torch.from_numpy(X))[:, 0].double().numpy()
    spread = np.log1p(y.astype(float))
    errors = np.expm1(predicted * spread.std() + spread.mean()) - y
    assert metrics["test/rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)
    assert metrics["test/mae"] == pytest.approx(np.abs(errors).mean(), rel=1e-4)
    assert metrics["test/loss"] == pytest.approx(loss(module, slice(0, 20)).item(), rel=1e-4)


def test_test_samples_of_the_clients_own_come_with_their_data_sets(tmp_path: Path) -> None:
    own = {"b": (X[:6], Y[:6]), "a": (X[6:10], Y[6:10])}
    data = {"clients": sets(), "clients_test": own}
    prepared = prepare_job(experiment("sequential", {}), model=linear(), data=data)
    assert prepared.federation.sizes("test").tolist() == [4, 6]  # clients in the order of their names
    np.testing.assert_array_equal(prepared.federation.shard(1, "test").x, X[:6])
    metrics = check(Form(lambda: data), "sequential", tmp_path / "run")
    assert "clients/test/accuracy/mean" in metrics


REFUSED: dict[str, tuple[Any, str]] = {
    "a list of two data sets": ([TensorDataset(torch.zeros(2, 1), torch.zeros(2))] * 2, "is ambiguous; give "),
    "names that are no parts": (sets(), "data sets called 'a', 'b' may be parts or clients; give {'clients'"),
    "a loader": (DataLoader(TensorDataset(torch.zeros(2, 1), torch.zeros(2))), "give what it reads: loader.dataset"),
    "a loader in a part": ({"train": DataLoader(Pairs(X, Y))}, "a DataLoader makes batches in an order of its own"),
    "loaders of clients": ({"clients": {"a": DataLoader(Pairs(X, Y))}}, "got DataLoader"),
    "clients and training samples": ({"clients": sets(), "train": Pairs(X, Y)}, "'train' and 'clients' are both"),
    "clients and owners": ({"clients": sets(), "client": OWNERS}, "'clients' says already whose"),
    "a client without samples": (
        {"clients": {"a": Pairs(X, Y), "b": Pairs([], [])}},
        "clients['b']: Pairs has no samples",
    ),
    "an unknown client of the test set": (
        {"clients": sets(), "clients_test": {"c": Pairs(X, Y)}},
        "'c' is no client of 'clients'",
    ),
    "two names that are one text": ({"clients": {7: Pairs(X, Y), "7": Pairs(X, Y)}}, "two clients have one name"),
    "no target": ({"train": Entries(values=X, outcome=Y)}, "name its target by 'label' beside 'train'"),
    "two targets": ({"train": Entries(values=X, label=Y, y=Y)}, "has both 'label' and 'y'; name its target by 'label'"),
    "a label that is not there": ({"train": Entries(values=X), "label": "grade"}, "has no 'grade', which y is"),
    "an owner that is not there": (
        {"train": Entries(values=X, y=Y), "client": "ward"},
        "has no 'ward', which client is",
    ),
    "an owner with a hole": (
        {"train": Entries(values=X, y=Y, ward=[None, *OWNERS[1:]]), "client": "ward"},
        "client[0] is None; every training sample needs an owner",
    ),
    "a name for a pair": ({"train": Pairs(X, Y), "label": "y"}, "is a pair, whose entries have no names"),
    "several inputs as a tuple": (TensorDataset(*[torch.from_numpy(one) for one in (X, X, Y)]), "inputs as a mapping"),
    "a part for validation": ({"train": Pairs(X, Y), "validation": Pairs(X, Y)}, "data.validation is a share"),
    "sequences without padding": (
        {"x": STEPS, "y": Y},
        "is ragged: every sample must have the same shape; sequences are",
    ),
    "sequences of a data set without padding": ({"train": Pairs(STEPS, Y)}, "need 'padding' beside 'train'"),
    "padding of what is even": ({"x": X, "y": Y, "padding": 0}, "all samples are of one length; leave it out"),
    "a mask without padding": ({"x": STEPS, "y": Y, "mask": "real"}, "say what fills them up by 'padding'"),
    "targets of other lengths": (
        {"x": STEPS, "y": [*CLASSES[:-1], np.zeros(1, int)], "padding": 0},
        "sample 19 has 2 steps of x and 1 of y; give a target for each step",
    ),
    "targets by name of another length": (
        {"x": X, "y": FOUND | {"boxes": BOXES[:5]}, "client": OWNERS},
        "y['labels'] has shape [20, 2]; expected [5, 2]",
    ),
    "a target of numbers that do not end": (
        {"x": X, "y": {"boxes": BOXES * np.nan}, "client": OWNERS},
        "y['boxes'] has a value that is not finite",
    ),
    "another target in the test set": (
        {"x": X, "y": FOUND, "client": OWNERS, "x_test": X, "y_test": {"boxes": BOXES}},
        "y has the targets ['boxes', 'labels', 'there'], y_test ['boxes']",
    ),
    "boxes of different numbers": (
        {"train": Pairs(X, [{"boxes": BOXES[0][: 1 + i % 2]} for i in range(20)]), "client": OWNERS},
        "sample 1: y['boxes'] is float32 (2, 2), of sample 0 float32 (1, 2)",
    ),
    "a fraction among integers": ({"x": [[1, 2], [3]], "y": [0, 1], "padding": 0.5}, "cannot be filled up with 0.5"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_a_form_that_is_refused_is_one_line_with_a_remedy(name: str, tmp_path: Path) -> None:
    data, line = REFUSED[name]
    settings = {"data": {"partition": "natural"}, "execution": {"executor": "inprocess"}}
    with pytest.raises(DataError) as caught:
        Simulation(settings, model=linear(), data=data, directory=tmp_path / "run")
    assert line in str(caught.value)
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "run").exists()


def test_padded_sequences_and_their_mask() -> None:
    values, mask = padded([torch.tensor([[1.0, 2.0]]), np.ones((3, 2), np.float32)], value=-1)
    assert values.tolist() == [[[1, 2], [-1, -1], [-1, -1]], [[1, 1]] * 3]
    assert mask.tolist() == [[True, False, False], [True, True, True]]
    with pytest.raises(DataError, match=r"sequences\[1\] has length 3, more than 2"):
        padded([[1], [1, 2, 3]], length=2)
