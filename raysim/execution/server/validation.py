"""Candidates for the next model, evaluated as rows on the server's validation set, without any training."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from torch import Tensor, nn
from torch.func import functional_call, vmap

from raysim.arrays import Float32, Float64
from raysim.data import Federation, Samples
from raysim.errors import UserCodeError
from raysim.models import exclusive_torch
from raysim.rounds.job import Job
from raysim.training import ParameterLayout, resolve_loss
from raysim.training.batches import Shard, model_input, target
from raysim.training.handed import one_a_sample
from raysim.training.losses import element_weight
from raysim.user_code import user_code


@dataclass(frozen=True, slots=True)
class _ValidationBatch:
    x: Tensor
    y: Tensor
    weight: Tensor | None


class ValidationLoss:
    """Mean losses of models on the server's validation set."""

    def __init__(self, job: Job, module: nn.Module, layout: ParameterLayout) -> None:
        """`module` is evaluated from here on, and nothing else should use it."""
        experiment = job.experiment
        self._layout = layout
        federation = job.federation.open()
        self._module = module.eval()
        self._loss = resolve_loss(experiment.training, federation.info, job.handed)
        samples = federation.server("validation")
        assert samples is not None, "checked before the run"
        size = experiment.evaluation.batch_size
        self._batches = [self._batch(samples.slice(i, i + size), federation) for i in range(0, len(samples), size)]
        self._together = self._can_vectorise()

    def of(self, models: Sequence[Float32]) -> Float64:
        """Losses `[c]` of models `[P]`; NaN or infinity where one is no model."""
        return self._losses(torch.from_numpy(np.stack(models)))

    def _losses(self, models: Tensor) -> Float64:
        """Mean losses `[c]` of models `[c, P]`."""
        total, count = np.zeros(len(models)), np.zeros(len(models))
        for batch in self._batches:
            with user_code("the model"):
                outputs = self._outputs(models, batch.x)
            for i, output in enumerate(outputs):
                with user_code("training.loss"):
                    losses = one_a_sample(self._loss(output, batch.y), len(batch.y)).double()
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
        except UserCodeError:  # a module of the user's own may do what cannot be vectorised
            return False
        return True

    def _batch(self, samples: Samples, federation: Federation) -> _ValidationBatch:
        shard = Shard.load(samples, torch.device("cpu"))
        return _ValidationBatch(model_input(shard.x, federation.info), target(shard.y, federation.info), shard.weight)
