"""Every model of the zoo: its size, its shapes, and that rows of clients can be vectorised."""

from __future__ import annotations

import pytest
import torch
from torch import nn
from torch.func import functional_call, grad, vmap

from raysim.config.model import (
    CnnCifarConfig,
    CnnConfig,
    LstmCharConfig,
    MlpConfig,
    MlpLoraConfig,
    ModelConfig,
    Resnet18GnConfig,
    SoftmaxConfig,
)
from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.models import MODELS, build_model, list_models, model_on_meta

MNIST = DataInfo("classification", (1, 28, 28), "pixels", classes=10)
CIFAR = DataInfo("classification", (3, 32, 32), "pixels", classes=10)
DIGITS = DataInfo("classification", (1, 8, 8), "real", classes=10)
TEXT = DataInfo("classification", (12,), "tokens", target_shape=(12,), classes=90, vocabulary=90)
NUMBER = DataInfo("regression", (7,), "real")
VECTOR = DataInfo("regression", (7,), "real", target_shape=(3,))
BINARY = DataInfo("classification", (30,), "real", classes=2)


def parameters(model: nn.Module) -> int:
    return sum(p.numel() for p in model.parameters())


def inputs(info: DataInfo, n: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(n)
    if info.input_kind == "tokens":
        return torch.randint(info.vocabulary or 1, (n, *info.input_shape), generator=generator)
    return torch.randn((n, *info.input_shape), generator=generator)


def test_list_models_describes_every_name_of_the_schema_in_one_line() -> None:
    names = {
        config().name
        for config in (
            SoftmaxConfig,
            MlpConfig,
            MlpLoraConfig,
            CnnConfig,
            CnnCifarConfig,
            Resnet18GnConfig,
            LstmCharConfig,
        )
    }
    assert set(MODELS) == names | {"hugging_face"} == set(list_models())
    assert all(text.endswith(".") and "\n" not in text for text in list_models().values())


@pytest.mark.parametrize(
    ("config", "info", "count"),
    [
        (SoftmaxConfig(), MNIST, 7_850),
        (SoftmaxConfig(bias=False), MNIST, 7_840),
        (MlpConfig(hidden=(200, 200)), MNIST, 199_210),
        (MlpLoraConfig(hidden=(200,), rank=4), MNIST, 785 * 200 + 4 * (784 + 200) + 201 * 10),
        (CnnConfig(), MNIST, 1_663_370),
        (CnnCifarConfig(), CIFAR, 1_626_442),
        (Resnet18GnConfig(), CIFAR, 11_173_962),
        # 8 values a character; torch keeps two bias vectors of 4·256 a layer
        (LstmCharConfig(), TEXT, 90 * 8 + 4 * 256 * (8 + 256 + 2) + 4 * 256 * (256 + 256 + 2) + 257 * 90),
    ],
)
def test_models_have_their_papers_number_of_parameters(config: ModelConfig, info: DataInfo, count: int) -> None:
    assert parameters(model_on_meta(config, info)) == count


@pytest.mark.parametrize(
    ("config", "info", "loss", "expected"),
    [
        (SoftmaxConfig(), MNIST, "auto", (5, 10)),
        (SoftmaxConfig(), NUMBER, "auto", (5,)),
        (SoftmaxConfig(), VECTOR, "huber", (5, 3)),
        (SoftmaxConfig(), BINARY, "cross_entropy", (5, 2)),
        (SoftmaxConfig(), BINARY, "binary_cross_entropy", (5,)),
        (MlpConfig(hidden=()), DIGITS, "auto", (5, 10)),
        (MlpConfig(hidden=(6,), dropout=0.5), NUMBER, "mse", (5,)),
        (MlpConfig(), DataInfo("regression", (4,), "real", target_shape=(2, 3)), "mse", (5, 2, 3)),
        (MlpConfig(), DataInfo("classification", (4,), "real", target_shape=(2,), classes=3), "auto", (5, 2, 3)),
        (CnnConfig(), DIGITS, "auto", (5, 10)),
        (CnnConfig(), DataInfo("classification", (8, 9), "pixels", classes=4), "auto", (5, 4)),
        (CnnCifarConfig(), DIGITS, "auto", (5, 10)),
        (Resnet18GnConfig(width=4), DIGITS, "auto", (5, 10)),
        (LstmCharConfig(hidden=5), TEXT, "auto", (5, 12, 90)),
        (
            LstmCharConfig(hidden=5),
            DataInfo("classification", (12,), "tokens", classes=9, vocabulary=9),
            "auto",
            (5, 9),
        ),
    ],
)
def test_outputs_have_the_shape_that_data_and_loss_want(
    config: ModelConfig, info: DataInfo, loss: str, expected: tuple[int, ...]
) -> None:
    model = build_model(config, info, seed=0, loss=loss)
    assert model(inputs(info, 5)).shape == expected


@pytest.mark.parametrize(
    ("config", "info"),
    [
        (SoftmaxConfig(), DIGITS),
        (SoftmaxConfig(), VECTOR),
        (MlpConfig(hidden=(6, 5)), NUMBER),
        (MlpConfig(), DataInfo("classification", (4,), "real", target_shape=(2,), classes=3)),
        (CnnConfig(), DIGITS),
        (CnnCifarConfig(dropout=False), DIGITS),
        (Resnet18GnConfig(width=4), DIGITS),
    ],
)
def test_gradients_of_rows_of_clients_equal_those_of_one_client_at_a_time(config: ModelConfig, info: DataInfo) -> None:
    # In float64, so that a difference would be one of the mathematics and not of the last bits.
    models = [build_model(config, info, seed=seed).double() for seed in range(3)]
    rows = {key: torch.stack([m.state_dict()[key] for m in models]) for key in models[0].state_dict()}
    x = torch.stack([inputs(info, 4)] * 3).double()

    def loss(weights: dict[str, torch.Tensor], batch: torch.Tensor) -> torch.Tensor:
        return functional_call(models[0], weights, (batch,)).square().mean()

    together = vmap(grad(loss))(rows, x)
    for k, model in enumerate(models):
        one = grad(loss)(dict(model.named_parameters()), x[k])
        for key, value in one.items():
            torch.testing.assert_close(together[key][k], value, rtol=1e-9, atol=1e-12)


def test_dropout_models_vectorise_with_masks_of_their_own() -> None:
    model = build_model(CnnCifarConfig(), DIGITS, seed=0)
    rows = {key: value.expand(2, *value.shape) for key, value in model.state_dict().items()}
    x = inputs(DIGITS, 4).expand(2, -1, -1, -1, -1)
    forward = vmap(lambda weights, batch: functional_call(model, weights, (batch,)), randomness="different")
    first, second = forward(rows, x)
    assert not torch.equal(first, second)


def test_images_are_flattened_in_channel_row_column_order() -> None:
    model = build_model(SoftmaxConfig(), DIGITS, seed=0)
    flat = build_model(SoftmaxConfig(), DataInfo("classification", (64,), "real", classes=10), seed=0)
    x = inputs(DIGITS, 3)
    assert torch.equal(model(x), flat(x.reshape(3, 64)))


def test_residual_blocks_follow_their_formula() -> None:
    block = build_model(Resnet18GnConfig(width=4), DIGITS, seed=0).get_submodule("stage2.0")
    x = torch.randn(2, 4, 8, 8)
    inner = torch.relu(block.norm1(block.conv1(x)))
    expected = torch.relu(block.norm2(block.conv2(inner)) + block.shortcut(x))
    assert torch.equal(block(x), expected)
    assert block(x).shape == (2, 8, 4, 4)


def test_lstm_predicts_a_position_from_what_comes_before_it_alone() -> None:
    model = build_model(LstmCharConfig(hidden=8), TEXT, seed=0)
    x = inputs(TEXT, 2)
    changed = x.clone()
    changed[:, 7] = (changed[:, 7] + 1) % 90
    before, after = model(x), model(changed)
    assert torch.equal(before[:, :7], after[:, :7])
    assert not torch.equal(before[:, 7:], after[:, 7:])


@pytest.mark.parametrize(
    ("config", "info", "line"),
    [
        (SoftmaxConfig(), TEXT, "model softmax takes numbers, but the samples are tokens; use lstm_char"),
        (MlpConfig(), TEXT, "model mlp takes numbers"),
        (CnnConfig(), NUMBER, r"model cnn takes images of shape \(channels, height, width\), .* have shape \(7,\)"),
        (CnnConfig(), TEXT, "model cnn takes images"),
        (
            CnnConfig(),
            DataInfo("classification", (1, 3, 9), "real", classes=2),
            "model cnn .* at least 4x4 .*(1, 3, 9)",
        ),
        (CnnCifarConfig(), DataInfo("classification", (5, 5), "real", classes=2), "model cnn_cifar .* at least 6x6"),
        (Resnet18GnConfig(width=9), DIGITS, r"model.groups: 2 groups do not divide model.width \(9 channels\)"),
        (LstmCharConfig(), DIGITS, r"model lstm_char takes sequences of tokens, .* real of shape \(1, 8, 8\)"),
        (
            LstmCharConfig(),
            DataInfo("regression", (12,), "tokens", vocabulary=9),
            r"model lstm_char predicts a class .* outputs of shape \(\)",
        ),
    ],
)
def test_a_model_that_cannot_take_the_data_says_so_in_one_line(config: ModelConfig, info: DataInfo, line: str) -> None:
    with pytest.raises(ModelError, match=line) as caught:
        build_model(config, info, seed=0)
    assert "\n" not in str(caught.value)
