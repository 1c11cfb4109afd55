"""Several targets a sample: a class for each pixel or time step, several yes-or-no labels; against plain torch."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.errors import ConfigError, DataError, ModelError
from raysim.training.losses import classes_last, cross_entropy, focal, row_cross_entropy

RANDOM = np.random.default_rng(7)
IMAGES, SERIES, ROWS = (RANDOM.normal(size=(24, *shape)).astype("float32") for shape in ((1, 6, 6), (5, 3), (6,)))
CLASSES = np.digitize(IMAGES[:, 0], [-0.5, 0.5])
SQUARE = IMAGES[:, :, :3, :3]

Case = tuple[Callable[[], nn.Module], np.ndarray, np.ndarray, str, Callable[[Tensor, Tensor], Tensor]]
CASES: dict[str, Case] = {
    "pixels": (lambda: nn.Conv2d(1, 3, 3, padding=1), IMAGES, CLASSES, "cross_entropy", F.cross_entropy),
    "as many classes as pixels in a row": (
        lambda: nn.Conv2d(1, 3, 1),
        SQUARE,
        CLASSES[:, :3, :3],
        "cross_entropy",
        F.cross_entropy,
    ),
    "masks": (
        lambda: nn.Conv2d(1, 1, 3, padding=1),
        IMAGES,
        (CLASSES > 1).astype("float32"),
        "binary_cross_entropy",
        lambda output, y: F.binary_cross_entropy_with_logits(output[:, 0], y.float()),
    ),
    "time steps": (
        lambda: nn.Linear(3, 2),
        SERIES,
        (SERIES[..., 0] > 0).astype(int),
        "auto",
        lambda output, y: F.cross_entropy(output.transpose(1, 2), y),
    ),
    "time steps, channels first": (
        lambda: nn.Conv1d(3, 2, 3, padding=1),
        SERIES.transpose(0, 2, 1).copy(),
        (SERIES[..., 0] > 0).astype(int),
        "auto",
        F.cross_entropy,
    ),
    "several labels": (
        lambda: nn.Linear(6, 4),
        ROWS,
        (ROWS[:, :4] > 0).astype(int),
        "binary_cross_entropy",
        lambda output, y: F.binary_cross_entropy_with_logits(output, y.float()),
    ),
}


def setting(loss: str, engine: str) -> dict[str, Any]:
    return {
        "rounds": 1,
        "cohort": 1.0,
        "data": {"partition": {"name": "iid", "clients": 2}, "test": 0.0},
        "client": {"batch_size": 16, "optimizer": {"lr": 0.3}},
        "training": {"loss": loss, "engine": engine, "compile": False},
        "evaluation": {"metrics": ["accuracy", "macro_f1"]},
        "execution": {"executor": "inprocess"},
        "tracking": {"report": False},
    }


@pytest.mark.parametrize("engine", ["sequential", "rows"])
@pytest.mark.parametrize("name", CASES)
def test_a_step_and_its_accuracy_are_those_of_plain_torch(name: str, engine: str, tmp_path: Path) -> None:
    make, x, y, loss, plain = CASES[name]
    torch.manual_seed(1)
    module = make()
    data = {"x": x, "y": y, "x_test": x, "y_test": y}
    experiment = Experiment.parse(setting(loss, engine))
    with Simulation(experiment, model=module, data=data, directory=tmp_path / "run") as simulation:
        (only,) = simulation
        found = simulation.model()
    # Two clients of 12 samples take a step each, so that the mean model is one step on all.
    inputs, targets = torch.from_numpy(x), torch.from_numpy(y).long()
    plain(module(inputs), targets).backward()
    for ours, theirs in zip(found.parameters(), module.parameters(), strict=True):
        assert theirs.grad is not None
        torch.testing.assert_close(ours, theirs - 0.3 * theirs.grad)
    with torch.no_grad():
        output = found(inputs)
        logits = classes_last(output, targets)
        binary = loss == "binary_cross_entropy"
        predicted = (output.reshape(targets.shape) > 0).long() if binary else logits.argmax(-1)
        assert only.metrics["test/loss"] == pytest.approx(plain(output, targets).item(), rel=1e-5)
    assert only.metrics["test/accuracy"] == pytest.approx((predicted == targets).double().mean().item())


def test_losses_of_pixels_are_torch_s_one_a_pixel_and_masked_by_weights(tmp_path: Path) -> None:
    output, target = torch.randn(4, 3, 5, 6), torch.randint(3, (4, 5, 6))
    expected = F.cross_entropy(output, target, reduction="none")
    for loss in (cross_entropy, row_cross_entropy):
        torch.testing.assert_close(loss(output, target), expected)
    torch.testing.assert_close(focal(output, target, gamma=0.0), expected)
    torch.testing.assert_close(cross_entropy(output.movedim(1, -1), target), expected)
    weight = (RANDOM.random(CLASSES.shape) > 0.5).astype("float32")
    void = np.where(weight > 0, CLASSES, 0)
    module = nn.Conv2d(1, 3, 1)
    data = {"x": IMAGES, "y": void, "weight": weight, "x_test": IMAGES, "y_test": void, "weight_test": weight}
    with Simulation(
        Experiment.parse(setting("auto", "rows")), model=module, data=data, directory=tmp_path / "r"
    ) as run:
        (only,) = run
        output = run.model()(torch.from_numpy(IMAGES))
    hits = (output.argmax(1).numpy() == CLASSES)[weight > 0]
    assert only.metrics["test/accuracy"] == pytest.approx(hits.mean())


def test_where_classes_are_is_told_by_shapes_and_by_dimensions_where_both_fit() -> None:
    for output, target, expected in (
        ((2, 5), (2,), (2, 5)),
        ((2, 7, 5), (2, 7), (2, 7, 5)),
        ((2, 5, 7), (2, 7), (2, 7, 5)),
        ((2, 5, 7, 8), (2, 7, 8), (2, 7, 8, 5)),
        ((2, 7, 8, 5), (2, 7, 8), (2, 7, 8, 5)),
    ):
        assert classes_last(torch.zeros(output), torch.zeros(target)).shape == expected
    both = torch.arange(2 * 27).reshape(2, 3, 3, 3)
    assert torch.equal(classes_last(both, torch.zeros(2, 3, 3)), both.movedim(1, -1))
    assert torch.equal(classes_last(both[0], torch.zeros(3, 3)), both[0])


def test_what_needs_one_class_a_sample_and_a_model_of_another_shape_are_one_clear_line(tmp_path: Path) -> None:
    several = (ROWS, (ROWS[:, :4] > 0).astype(int))
    one_hot = np.eye(4, dtype=int)[np.arange(24) % 4]
    cases: list[tuple[dict[str, Any], nn.Module, Any, type[Exception], str]] = [
        (
            {"data": {"partition": {"name": "dirichlet", "clients": 2}}},
            nn.Linear(6, 4),
            several,
            DataError,
            "dirichlet deals by class label, but every sample has several targets; use iid, quantity or natural",
        ),
        (
            {},
            nn.Linear(6, 4),
            (ROWS, one_hot),
            ModelError,
            r"2 classes for each of \(4,\) targets; for several yes-or-no labels a sample set training.loss: "
            r"binary_cross_entropy, for one-hot labels give y.argmax\(1\) \(expected \[2, 4, 2\]\)",
        ),
        (
            {},
            nn.Conv2d(1, 2, 1),
            (IMAGES, CLASSES),
            ModelError,
            r"3 classes for each of \(6, 6\) targets \(expected \[2, 3, 6, 6\], or \[2, 6, 6, 3\]\)",
        ),
        ({"client": {"resampling": "balanced"}}, nn.Linear(6, 4), several, ConfigError, "samples with one class each"),
        ({"data": {"imbalance": {"ratio": 2}}}, nn.Linear(6, 4), several, DataError, "only samples with one label"),
        (
            {"training": {"loss": "binary_cross_entropy"}},
            nn.Conv2d(1, 1, 1),
            (IMAGES, CLASSES),
            ConfigError,
            "binary_cross_entropy is for two classes, the data has 3; use cross_entropy",
        ),
    ]
    for more, module, data, kind, message in cases:
        values = setting("auto", "sequential")
        for section, keys in more.items():
            values[section] = values[section] | keys
        with pytest.raises(kind, match=message):
            Simulation(Experiment.parse(values), model=module, data=data, directory=tmp_path / "run")
