"""Candidates for a round's weights: the models that they would make, evaluated as rows, without any training."""

from __future__ import annotations

import inspect
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from raysim import keyed
from raysim.aggregation.rows import ClientRows, WeightChooser
from raysim.algorithms import Algorithm
from raysim.arrays import Float32, Float64
from raysim.config import Experiment, load
from raysim.config.server import LearnedWeightsConfig
from raysim.data import Federation, Samples
from raysim.errors import ConfigError, RunError, UserCodeError
from raysim.models import exclusive_torch
from raysim.rounds.job import Job
from raysim.rounds.results import Chosen
from raysim.selection.cohort import cohort_size
from raysim.training import ParameterLayout, resolve_loss, torch_threads
from raysim.training.batches import Shard, model_input, target
from raysim.training.losses import element_weight
from raysim.user_code import user_code

LOSS, GAIN = "weights/loss", "weights/gain"
LEARNED_METRICS = (LOSS, GAIN)
"""What is recorded of a round whose weights were learned: the validation loss of the weights that were chosen, and by
how much it is below that of the default weights."""

_CHOOSER = "aggregation.weights.chooser"
_CALLED = "it is called as choose(default, scores, trials=…, seed=…) and returns the clients' weights"


def check_learned(experiment: Experiment, federation: Federation, algorithm: Algorithm) -> None:
    """Refuse weights that cannot be learned.

    Raises:
        ConfigError: the chooser is none, there is no validation set, or the rows of a round are beyond the budget.
    """
    config = experiment.aggregation.weights
    if not isinstance(config, LearnedWeightsConfig):
        return
    load_chooser(config)
    if federation.server("validation") is None:
        raise ConfigError(
            "aggregation.weights: learned needs a validation set to learn from; set data.validation, e.g. to 0.1"
        )
    clients = cohort_size(experiment, federation.population)
    row = sum(4 * field.size for field in algorithm.fields())
    if clients * row > config.budget:
        raise ConfigError(
            f"aggregation.weights.budget: the updates of {clients} clients take {clients * row:,} bytes, the budget is "
            f"{config.budget:,}; raise it, or lower cohort to {max(config.budget // row, 0):,}"
        )


def load_chooser(config: LearnedWeightsConfig) -> WeightChooser:
    """The configured chooser.

    Raises:
        ConfigError: there is none of this name, or it cannot be called as one.
    """
    chooser: Any = load(config.chooser, key=_CHOOSER)
    if not callable(chooser) or isinstance(chooser, type):
        raise ConfigError(f"{_CHOOSER}: {config.chooser} is a {type(chooser).__name__}, not a function; {_CALLED}")
    try:
        inspect.signature(chooser).bind(None, None, trials=0, seed=0)
    except (TypeError, ValueError) as error:
        raise ConfigError(f"{_CHOOSER}: {config.chooser} cannot be called as a chooser ({error}); {_CALLED}") from None
    found: WeightChooser = chooser
    return found


def _no_weights(found: Any, count: int) -> str | None:
    """Why what a chooser returned are no weights of so many clients; None where they are."""
    if not isinstance(found, np.ndarray) or found.dtype.kind not in "fiu":
        return f"a {type(found).__name__}" + (f" of {found.dtype}" if isinstance(found, np.ndarray) else "")
    if found.shape != (count,):
        return f"shape {list(found.shape)}"
    if not np.isfinite(found).all():
        return "a weight that is not finite"
    if found.min() < 0:
        return f"a weight of {found.min():g}"
    return "only zeros" if found.sum() <= 0 else None


@dataclass(frozen=True, slots=True)
class _Batch:
    x: Tensor
    y: Tensor
    weight: Tensor | None


class WeightLearner:
    """Weighs the rows of a round by their worth on the server's validation set."""

    def __init__(self, job: Job, module: nn.Module, layout: ParameterLayout, algorithm: Algorithm) -> None:
        experiment = job.experiment
        config = experiment.aggregation.weights
        assert isinstance(config, LearnedWeightsConfig)
        self._config, self._seed, self._threads = config, experiment.seed, job.engine.threads
        self._layout, self._algorithm = layout, algorithm
        federation = job.federation.open()
        self._module = module.eval()
        self._loss = resolve_loss(experiment.training, federation.info)
        samples = federation.server("validation")
        assert samples is not None, "checked before the run"
        size = experiment.evaluation.batch_size
        self._batches = [self._batch(samples.slice(i, i + size), federation) for i in range(0, len(samples), size)]
        self._chooser = load_chooser(config)
        self._together = self._can_vectorise()

    def choose(self, rows: ClientRows, state: Mapping[str, Float64], model: Float32) -> Chosen:
        """The weights of these clients, and what they gain.

        Raises:
            RunError: all default weights are zero, or the chooser returns no weights.
            UserCodeError: the chooser fails.
        """
        total = rows.weights.sum()
        if total == 0:
            raise RunError(f"round {rows.round}: the weights of the clients that trained sum to zero")
        default = rows.weights / total
        seed = keyed.integer(self._seed, keyed.Purpose.LEARNED_WEIGHTS, rows.round)

        def scores(weights: Float64) -> Float64:
            return self._scores(weights, rows, state, model)

        with exclusive_torch(), torch_threads(self._threads), torch.no_grad():
            with user_code(f"{_CHOOSER} {self._config.chooser}"):
                found = self._chooser(default, scores, trials=self._config.trials, seed=seed)
            if (wrong := _no_weights(found, len(default))) is not None:
                raise RunError(
                    f"round {rows.round}: {_CHOOSER} {self._config.chooser} returned {wrong}; expected a NumPy array "
                    f"of {len(default)} finite weights of at least 0, not all of them 0"
                )
            found = found / found.sum()
            before, after = scores(np.stack([default, found])).tolist()
        return Chosen(found, {LOSS: after, GAIN: before - after})

    def _scores(self, weights: Float64, rows: ClientRows, state: Mapping[str, Float64], model: Float32) -> Float64:
        """Validation losses `[c]` of the models that these weights `[c, k]` would make."""
        mixed = {
            name: (torch.from_numpy(weights) @ torch.from_numpy(one).double()).numpy()
            for name, one in rows.rows.items()
        }
        models = [
            self._algorithm.apply(model, state, {name: one[i] for name, one in mixed.items()})[0]
            for i in range(len(weights))
        ]
        return self._losses(torch.from_numpy(np.stack(models)))

    def _losses(self, models: Tensor) -> Float64:
        """Mean losses `[c]` of models `[c, P]`."""
        total, count = np.zeros(len(models)), np.zeros(len(models))
        for batch in self._batches:
            with user_code("the model"):
                outputs = self._outputs(models, batch.x)
            for i, output in enumerate(outputs):
                with user_code("training.loss"):
                    losses = self._loss(output, batch.y).double()
                shares = element_weight(losses, None if batch.weight is None else batch.weight.double())
                total[i] += float((losses * shares).sum())
                count[i] += float(shares.sum())
        return total / count

    def _outputs(self, models: Tensor, x: Tensor) -> Tensor | list[Tensor]:
        if self._together:
            outputs: Tensor = vmap(lambda values: functional_call(self._module, values, (x,)))(
                self._layout.views(models)
            )
            return outputs
        return [functional_call(self._module, self._layout.views(one), (x,)) for one in models]

    def _can_vectorise(self) -> bool:
        """Whether candidates can be evaluated at once; a property of the model, so the same wherever it is tried."""
        rows = self._layout.pack(self._module).expand(2, -1).clone()
        self._together = True
        try:
            with exclusive_torch(), torch.no_grad(), user_code("the model"):
                self._outputs(rows, self._batches[0].x[:1])
        except UserCodeError:  # whatever a module of somebody's own does that cannot be vectorised
            return False
        return True

    def _batch(self, samples: Samples, federation: Federation) -> _Batch:
        shard = Shard.load(samples, torch.device("cpu"))
        return _Batch(model_input(shard.x, federation.info), target(shard.y, federation.info), shard.weight)
