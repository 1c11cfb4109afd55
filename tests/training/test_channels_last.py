"""Which modules get images whose channels lie side by side."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from reference_loops import IMAGES, block_of, mean_loss
from torch import Tensor, nn

from raysim.data import Samples
from raysim.training import ParameterLayout, SequentialEngine
from raysim.training.channels_last import MOST_CHANNELS, channels_last, wants_channels_last
from raysim.training.losses import cross_entropy

CPU = torch.device("cpu")
COLOURS = replace(IMAGES, input_shape=(2, 8, 6))
CHANNELS, HEIGHT, WIDTH = COLOURS.input_shape


def colours(count: int) -> Samples:
    """Random images with ten classes."""
    generator = np.random.default_rng(0)
    x = generator.integers(0, 256, (count, *COLOURS.input_shape), dtype=np.uint8)
    return Samples(x, generator.integers(0, 10, count), None)


class Convolution(nn.Module):
    """One convolution; notes the strides of what it is given."""

    def __init__(self, channels: int = 4) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(CHANNELS, channels, 3, padding=1)
        self.head = nn.Linear(channels * HEIGHT * WIDTH, 10)
        self.strides: list[tuple[int, ...]] = []

    def forward(self, x: Tensor) -> Tensor:
        self.strides.append(x.stride())
        return self.head(torch.relu(self.convolution(x)).flatten(1))


class Viewing(Convolution):
    """Looks at the convolution's output in the order in which it lies, in training only or always."""

    def __init__(self, *, always: bool) -> None:
        super().__init__()
        self.always = always

    def forward(self, x: Tensor) -> Tensor:
        self.strides.append(x.stride())
        found = torch.relu(self.convolution(x))
        return self.head(found.view(len(x), -1) if self.always or self.training else found.flatten(1))


class Storage(Convolution):
    """Takes the values as they lie in memory: other strides would be other values."""

    def forward(self, x: Tensor) -> Tensor:
        return super().forward(torch.as_strided(x, x.shape, (CHANNELS * HEIGHT * WIDTH, HEIGHT * WIDTH, WIDTH, 1)))


@pytest.mark.parametrize("channels", [1, 3])
def test_the_strides_are_others_and_the_values_the_same(channels: int) -> None:
    given = torch.rand(2, channels, 4, 5)
    found = channels_last(given)
    assert torch.equal(found, given)
    assert found.stride() == (20 * channels, 1, 5 * channels, channels)


def test_convolutions_of_few_channels_want_it() -> None:
    assert wants_channels_last(Convolution(), COLOURS, CPU)
    assert wants_channels_last(Convolution(MOST_CHANNELS), COLOURS, CPU)


@pytest.mark.parametrize(
    "module",
    [
        Convolution(MOST_CHANNELS + 1),
        nn.Sequential(nn.Flatten(), nn.Linear(CHANNELS * HEIGHT * WIDTH, 10)),
        Viewing(always=True),
        Viewing(always=False),
        Storage(),
    ],
    ids=["many channels", "no convolution", "a view", "a view in training", "values as they lie"],
)
def test_others_do_not(module: nn.Module) -> None:
    assert not wants_channels_last(module, COLOURS, CPU)


def test_images_without_channels_and_processors_with_kernels_of_their_own_do_not() -> None:
    flat = nn.Sequential(nn.Unflatten(1, (1, HEIGHT)), nn.Conv2d(1, 2, 3))
    assert not wants_channels_last(flat, replace(COLOURS, input_shape=(HEIGHT, WIDTH)), CPU)
    assert not wants_channels_last(Convolution(), COLOURS, torch.device("cuda", 0))


def test_the_trial_leaves_module_and_generator_alone() -> None:
    module = nn.Sequential(Convolution(), nn.Dropout(0.5), nn.BatchNorm1d(10))
    before, state = [tensor.clone() for tensor in module.state_dict().values()], torch.get_rng_state()
    assert wants_channels_last(module, COLOURS, CPU)
    assert all(torch.equal(a, b) for a, b in zip(module.state_dict().values(), before, strict=True))
    assert torch.equal(torch.get_rng_state(), state)
    assert module.training
    assert not module[0].strides


@pytest.mark.parametrize("module", [Convolution(), Viewing(always=False)])
def test_the_engine_gives_a_module_its_images_as_it_wants_them_and_the_gradients_are_autograds(
    module: Convolution,
) -> None:
    layout, samples, index = ParameterLayout(module), colours(9), torch.tensor([3, 8, 0])
    row = layout.pack(module)
    wanted = wants_channels_last(module, COLOURS, CPU)
    with torch.random.fork_rng(devices=[]):
        engine = SequentialEngine(module, layout, cross_entropy, COLOURS, CPU)
        engine.rows[0] = row
        engine.load(block_of([samples], [[index]]))
        engine.gradients(0, 1)
    assert (module.strides[-1][1] == 1) == wanted
    for parameter in module.parameters():
        parameter.grad = None
    mean_loss(module, samples, index).backward()
    for name, view in layout.views(engine.grad[0]).items():
        torch.testing.assert_close(view, module.get_parameter(name).grad, rtol=0, atol=1e-6)
