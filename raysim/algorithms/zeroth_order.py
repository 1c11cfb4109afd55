"""Zeroth-order steps along directions that everybody can make from a seed: only scalars travel.

Qin, Chen, Qian, Ding, Li & Deng, "Federated Full-Parameter Tuning of Billion-Sized Language Models with Communication
Cost under 18 Kilobytes" (FedKSeed), ICML 2024, algorithm 1. There are S directions z_s, each Gaussian. In a local step
a client draws one of them and takes two losses of its batch, g = (F(w + εz) - F(w - εz)) / 2ε, w ← w - ηgz (equation 2;
MeZO, Malladi et al. 2023). It sends how far it went along each, -Σ ηg, the server adds the average to a_s, and the
model is w_0 + Σ a_s z_s: who has the first model and the seeds needs S numbers for the model of any round.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np
import torch
from torch import Tensor

from raysim import keyed
from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, one_version_only, plain_sgd_only
from raysim.arrays import Bools, Float32, Float64
from raysim.config import Experiment
from raysim.config.algorithms import FedKSeedConfig
from raysim.config.client import ClientConfig, OptimizerConfig
from raysim.errors import ConfigError, RunError
from raysim.training import Clients, ParameterLayout, to_device

PIECE = 32_768
"""Columns of a direction that are drawn at once."""
_SCALARS, _DIRECTIONS, _VALUES = 2.0**30, 2.0**10, 2.0**40
"""Scalars are multiples of 2^-30, directions of 2^-10 and first weights of 2^-40: in float64 all products and sums of
them are exact, in any order, as long as they stay below `_MOST`."""
_MOST = 2.0**12
_LONGEST = 8.0
"""Above every value of a direction."""


class FedKSeed(Algorithm):
    """w = w_0 + Σ a_s z_s, where a_s adds up how far clients went along the direction of seed s, by losses alone."""

    paper = "Qin et al. 2024, arXiv:2312.06353"
    columnwise = False
    matrices = 2

    def __init__(self, config: FedKSeedConfig, layout: ParameterLayout) -> None:
        super().__init__(config, layout)
        self.seeds, self.epsilon, self.seed, self.lr = config.seeds, config.epsilon, config.seed, config.server_lr

    def check(self, experiment: Experiment) -> None:
        one_version_only(experiment, "its clients make the model from the scalars of all rounds before")
        plain_sgd_only(experiment, "algorithm: fedkseed takes steps of its own along random directions")
        if experiment.client.clip_norm is not None or any(one.clip_norm for one in experiment.client.groups):
            raise ConfigError("client.clip_norm: fedkseed takes no gradients that could be clipped; leave it out")
        if self.layout.buffers:
            raise ConfigError(
                f"algorithm: fedkseed moves parameters alone, and the model has running statistics "
                f"({self.layout.buffers[0].name}); use a model without batch normalisation"
            )
        if experiment.training.checkpointing:
            raise ConfigError("training.checkpointing: fedkseed has no backward pass; set it to false")

    def local_optimizer(self, client: ClientConfig) -> OptimizerConfig | None:
        return None

    @property
    def values_down(self) -> int | None:
        return self.seeds

    def fields(self) -> tuple[Field, ...]:
        return (Field("scalars", self.seeds),)

    def local(self, c: Clients) -> Mapping[str, Tensor]:
        c.new_rows("point")
        c.new_rows("direction")
        scalars = c.rows.new_zeros((c.k, self.seeds))
        for b in c.batches():
            key = c.turn[: b.k], b.clients, b.number
            chosen = keyed.integers(c.setting.seed, keyed.Purpose.CHOSEN_DIRECTION, *key) % self.seeds
            point, direction = b.own["point"], b.own["direction"][:, : b.trainable]
            for row, seed in zip(direction, chosen.tolist(), strict=True):
                row.copy_(torch.from_numpy(direction_of(self.seed, seed, self.layout)))
            losses = []
            for epsilon in (self.epsilon, -self.epsilon):
                point.copy_(b.rows)
                point[:, : b.trainable].add_(direction, alpha=epsilon)
                losses.append(b.losses(at=point))
            step = ((losses[0] - losses[1]) * (-b.lr / (2 * self.epsilon)))[:, None]
            b.weights.addcmul_(direction, step)
            scalars[: b.k].scatter_add_(1, to_device(chosen, step.device)[:, None], step)
        return {"scalars": scalars}

    def first_model(self, model: Float32) -> Float32:
        return (np.rint(model.astype(np.float64) * _VALUES) / _VALUES).astype(np.float32)

    def init(self, model: Float32) -> dict[str, Float64]:
        return {"scalars": np.zeros(self.seeds), "exact": model.astype(np.float64)}

    def apply(
        self, model: Float32, state: Mapping[str, Float64], mean: Mapping[str, Float64]
    ) -> tuple[Float32, dict[str, Float64]]:
        moved = np.rint(mean["scalars"] * self.lr * _SCALARS) / _SCALARS
        scalars = state["scalars"] + moved
        exact = walked(state["exact"], moved, self.seed, self.layout, reach=scalars)
        return exact.astype(np.float32), {"scalars": scalars, "exact": exact}


def walked(start: Float64, scalars: Float64, seed: int, layout: ParameterLayout, *, reach: Float64) -> Float64:
    """start + Σ scalars_s z_s, `[P]`, to the same bits whatever the scalars are a sum of.

    Args:
        start: `[P]`, the first model of a run, or what it walked to.
        scalars: `[S]`, multiples of 2^-30.
        reach: the scalars of the whole walk from the first model.

    Raises:
        RunError: it is too long for sums that are exact.
    """
    if not np.abs(reach).sum() * _LONGEST + np.abs(start).max(initial=0.0) < _MOST:
        raise RunError(
            "algorithm: fedkseed walked so far that its model can no longer be rebuilt to the bit from scalars; lower "
            "client.optimizer.lr"
        )
    found = start.copy()
    for number, columns in enumerate(_pieces(layout.trainable)):
        for one in np.flatnonzero(scalars).tolist():
            found[columns] += scalars[one] * _piece(seed, one, number, columns)
    found[: layout.trainable][_padding(layout)] = 0.0
    return found


def rebuilt(first: Float32, scalars: Float64, seed: int, layout: ParameterLayout) -> Float32:
    """The model `[P]` that a run has with these scalars, to the bit, from its first model `[P]`.

    Args:
        scalars: `[S]`, the vector `scalars` of the server's state.
        seed: `algorithm.seed`.
    """
    return walked(first.astype(np.float64), scalars, seed, layout, reach=scalars).astype(np.float32)


def direction_of(seed: int, one: int, layout: ParameterLayout) -> Float32:
    """The direction z of a seed, float32 `[T]`; zero in the padding."""
    pieces = [_piece(seed, one, number, columns) for number, columns in enumerate(_pieces(layout.trainable))]
    found = np.concatenate(pieces).astype(np.float32)
    found[_padding(layout)] = 0.0
    return found


def _pieces(columns: int) -> Iterator[slice]:
    for start in range(0, columns, PIECE):
        yield slice(start, min(start + PIECE, columns))


def _piece(seed: int, one: int, number: int, columns: slice) -> Float64:
    random = keyed.generator(seed, keyed.Purpose.DIRECTION, one, number)
    drawn = random.standard_normal(columns.stop - columns.start, dtype=np.float32).astype(np.float64)
    most = _LONGEST * _DIRECTIONS - 1
    found: Float64 = np.rint(drawn * _DIRECTIONS).clip(-most, most) / _DIRECTIONS
    return found


def _padding(layout: ParameterLayout) -> Bools:
    padding = np.ones(layout.trainable, dtype=bool)
    for segment in layout.parameters:
        padding[segment.start : segment.start + segment.size] = False
    return padding
