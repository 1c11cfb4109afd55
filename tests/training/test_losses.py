"""Losses against plain loops; weights, vectorisation, and the lines for what does not fit."""

from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor, nn
from torch.func import grad, vmap

from raysim.config.training import TrainingConfig
from raysim.data import DataInfo
from raysim.errors import ConfigError
from raysim.training.losses import LOSSES, check_loss, list_losses, loss_name, resolve_loss, weighted_mean

CLASSES = DataInfo("classification", (4,), "real", classes=3)
BINARY = DataInfo("classification", (4,), "real", classes=2)
TEXT = DataInfo("classification", (5,), "tokens", target_shape=(5,), classes=3, vocabulary=3)
NUMBER = DataInfo("regression", (4,), "real")
VECTOR = DataInfo("regression", (4,), "real", target_shape=(2,))


def draw(*shape: int, seed: int = 0) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def labels(*shape: int, classes: int = 3, seed: int = 1) -> Tensor:
    return torch.randint(classes, shape, generator=torch.Generator().manual_seed(seed))


def loop(loss: str, output: np.ndarray, target: float, delta: float) -> float:
    if loss == "cross_entropy":
        return math.log(sum(math.exp(v) for v in output)) - float(output[int(target)])
    value = float(output)
    if loss == "binary_cross_entropy":
        p = 1 / (1 + math.exp(-value))
        return -math.log(p if target else 1 - p)
    error = abs(value - target)
    if loss == "mse":
        return error**2
    return error**2 / 2 if error <= delta else delta * (error - delta / 2)


@pytest.mark.parametrize(
    ("loss", "info", "output", "target"),
    [
        ("cross_entropy", CLASSES, draw(6, 3), labels(6)),
        ("cross_entropy", TEXT, draw(6, 5, 3), labels(6, 5)),
        ("binary_cross_entropy", BINARY, draw(6), labels(6, classes=2)),
        ("mse", NUMBER, draw(6), draw(6, seed=1)),
        ("mse", VECTOR, draw(6, 2), draw(6, 2, seed=1)),
        ("huber", NUMBER, draw(6), draw(6, seed=1)),
        ("huber", VECTOR, draw(6, 2), draw(6, 2, seed=1)),
    ],
)
def test_losses_give_one_value_a_target_as_a_plain_loop_does(
    loss: str, info: DataInfo, output: Tensor, target: Tensor
) -> None:
    elements = resolve_loss(TrainingConfig(loss=loss, huber_delta=0.7), info)(output, target)
    assert elements.shape == target.shape
    expected = [loop(loss, output[i].numpy(), target[i].item(), 0.7) for i in np.ndindex(*target.shape)]
    np.testing.assert_allclose(elements.numpy().ravel(), expected, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("loss", ["binary_cross_entropy", "mse", "huber"])
def test_a_last_dimension_of_one_is_not_broadcast(loss: str) -> None:
    target = labels(6, classes=2).float()
    flat = LOSSES[loss](draw(6), target)
    assert torch.equal(LOSSES[loss](draw(6).unsqueeze(1), target), flat)
    with pytest.raises(ValueError, match="not one for each"):
        LOSSES[loss](draw(6, 2), target)


@pytest.mark.parametrize(
    ("loss", "output", "target"),
    [
        ("cross_entropy", draw(4, 6, 3), labels(4, 6)),
        ("cross_entropy", draw(4, 6, 5, 3), labels(4, 6, 5)),
        ("binary_cross_entropy", draw(4, 6), labels(4, 6, classes=2)),
        ("mse", draw(4, 6, 1), draw(4, 6, seed=1)),
        ("huber", draw(4, 6), draw(4, 6, seed=1)),
    ],
)
@pytest.mark.parametrize("masked", [False, True])
def test_weighted_losses_vectorise_over_rows_of_clients(
    loss: str, output: Tensor, target: Tensor, masked: bool
) -> None:
    weight = labels(*target.shape, classes=2, seed=3).float() if masked else torch.ones(target.shape)
    weight[1] = 0

    def mean(o: Tensor, t: Tensor, w: Tensor) -> Tensor:
        return weighted_mean(LOSSES[loss](o, t), w)

    together = vmap(grad(mean))(output, target, weight)
    for k in range(len(output)):
        torch.testing.assert_close(together[k], grad(mean)(output[k], target[k], weight[k]))
    assert together[1].eq(0).all()


@given(
    st.lists(st.tuples(st.floats(-10, 10, width=32), st.sampled_from([0.0, 0.25, 1.0, 3.0])), min_size=1, max_size=9)
)
@settings(deadline=None)
def test_weighted_mean_is_the_sum_of_products_over_the_sum_of_weights(pairs: list[tuple[float, float]]) -> None:
    elements, weight = (torch.tensor(column) for column in zip(*pairs, strict=True))
    total = math.fsum(w for _, w in pairs)
    expected = math.fsum(w * v for v, w in pairs) / total if total else 0.0
    assert weighted_mean(elements, weight).item() == pytest.approx(expected, rel=1e-5, abs=1e-5)


def test_no_weights_are_weights_of_one_and_padding_of_weight_zero_changes_nothing() -> None:
    elements = draw(6)
    padded, weight = torch.cat([elements, torch.tensor([9.0, 9.0])]), torch.tensor([1.0] * 6 + [0.0] * 2)
    torch.testing.assert_close(weighted_mean(elements, None), elements.mean())
    torch.testing.assert_close(weighted_mean(padded, weight), elements.mean())


def test_all_weights_zero_give_zero_with_gradient_zero() -> None:
    elements = draw(4).requires_grad_()
    mean = weighted_mean(elements, torch.zeros(4))
    mean.backward()
    assert mean.item() == 0
    assert elements.grad is not None
    assert elements.grad.eq(0).all()


def test_weights_of_samples_reach_their_positions_and_weights_of_positions_their_sample() -> None:
    elements, sample_weight = draw(3, 5), torch.tensor([1.0, 0.0, 2.0])
    expected = (elements.mean(1) * sample_weight).sum() / 3
    torch.testing.assert_close(weighted_mean(elements, sample_weight), expected)
    of_samples, mask = draw(3), torch.tensor([[1.0, 1.0], [1.0, 0.0], [0.0, 0.0]])
    expected = (of_samples[0] + 0.5 * of_samples[1]) / 1.5
    torch.testing.assert_close(weighted_mean(of_samples, mask), expected)
    torch.testing.assert_close(weighted_mean(of_samples, torch.ones(3, 2)), weighted_mean(of_samples, None))


def test_auto_is_cross_entropy_for_classes_and_squared_error_for_numbers() -> None:
    assert loss_name(TrainingConfig(), CLASSES) == "cross_entropy"
    assert loss_name(TrainingConfig(), NUMBER) == "mse"
    assert resolve_loss(TrainingConfig(), CLASSES) is LOSSES["cross_entropy"]
    assert set(list_losses()) == {"cross_entropy", "binary_cross_entropy", "focal", "mse", "huber", "dpo"}
    assert all(text.endswith(".") and "\n" not in text for text in list_losses().values())


# Losses of a user's own


def absolute(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs()


def mean_absolute(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().mean()


def of_another_shape(output: Tensor, target: Tensor) -> Tensor:
    return (output - target).abs().unsqueeze(0)


def a_float(output: Tensor, target: Tensor) -> float:
    return 1.0


def detached(output: Tensor, target: Tensor) -> Tensor:
    return output.detach() - target


def failing(output: Tensor, target: Tensor) -> Tensor:
    return output[:, 7]


not_a_function = 3


def test_a_loss_of_ones_own_is_called_with_output_and_target() -> None:
    loss = resolve_loss(TrainingConfig(loss=f"{__name__}:absolute"), NUMBER)
    assert check_loss(loss, (), NUMBER, name="absolute") is False
    averaged = resolve_loss(TrainingConfig(loss=f"{__name__}:mean_absolute"), NUMBER)
    assert check_loss(averaged, (), NUMBER, name="mean_absolute") is True
    assert torch.equal(loss(draw(3), torch.zeros(3)), draw(3).abs())


@pytest.mark.parametrize(
    ("name", "line"),
    [
        ("of_another_shape", r"returned shape \[1, 2\]; return one loss a sample or a target, shape \[2\]"),
        ("a_float", r"returned a float; return one loss"),
        ("detached", "has no gradient with respect to the output"),
        ("failing", r"fails on outputs \[2\] and targets \[2\]: IndexError: too many indices"),
    ],
)
def test_a_loss_of_ones_own_that_breaks_the_contract_is_one_line(name: str, line: str) -> None:
    loss = resolve_loss(TrainingConfig(loss=f"{__name__}:{name}"), NUMBER)
    with pytest.raises(ConfigError, match=f"training.loss: {name} {line}") as caught:
        check_loss(loss, (), NUMBER, name=name)
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("loss", "info", "line"),
    [
        ("cross_entropy", NUMBER, "cross_entropy does not suit .* numbers; use mse or huber"),
        ("binary_cross_entropy", NUMBER, "binary_cross_entropy does not suit .* numbers"),
        ("mse", CLASSES, "mse does not suit .* classes; use cross_entropy"),
        ("huber", TEXT, "huber does not suit .* classes"),
        ("binary_cross_entropy", CLASSES, "is for two classes, the data has 3; use cross_entropy"),
        (f"{__name__}:absent", NUMBER, "has no 'absent'"),
        (f"{__name__}:not_a_function", NUMBER, r"is no function of \(output, target\)"),
        ("torch.nn:Linear", NUMBER, "needs arguments; name an instance, or a function"),
    ],
)
def test_a_loss_that_does_not_suit_the_data_is_one_line(loss: str, info: DataInfo, line: str) -> None:
    with pytest.raises(ConfigError, match=f"training.loss: .*{line}"):
        resolve_loss(TrainingConfig(loss=loss), info)


def test_gradients_equal_those_of_torchs_own_losses() -> None:
    output, target = draw(6, 3).requires_grad_(), labels(6)
    (ours,) = torch.autograd.grad(weighted_mean(LOSSES["cross_entropy"](output, target), None), output)
    (theirs,) = torch.autograd.grad(nn.CrossEntropyLoss()(output, target), output)
    torch.testing.assert_close(ours, theirs)
