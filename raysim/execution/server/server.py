"""What the server does, wherever it runs: the first model, a round's step, checkpoints. It keeps nothing of its own."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
import torch

from raysim.aggregation import (
    Finished,
    MeanContext,
    NoClients,
    Record,
    SumOpening,
    build_aggregation,
    discount_of,
    union,
)
from raysim.algorithms import build_algorithm
from raysim.arrays import Float32, Float64, Int32
from raysim.config.parsing import parse_json
from raysim.errors import RunError
from raysim.execution.clients.broadcast import SharedVectors
from raysim.execution.server.columns import ServerStep, State
from raysim.execution.server.hashing import Hashing
from raysim.execution.server.validation import ValidationLoss
from raysim.models import BASE, base_fingerprint, exclusive_torch
from raysim.rounds.digests import Digesting
from raysim.rounds.job import Job
from raysim.rounds.results import StepFacts
from raysim.rounds.vectors import read_vectors, save_tensors, save_vectors
from raysim.selection.cohort import cohort_size, expected_weight
from raysim.training import ParameterLayout, torch_threads
from raysim.user_code import naming

VECTORS = "server.safetensors"
LAYOUT = "layout.json"
OLDER = "older.safetensors"
_NONE_OLDER: Mapping[int, Float32] = MappingProxyType({})


class Server:
    """Pure functions of (state, model, sums) under one experiment."""

    def __init__(self, job: Job) -> None:
        experiment = job.experiment
        self.job = job
        info = job.federation.open().info
        self._build = partial(job.build_module, info)
        self.layout = ParameterLayout(self._build())
        build = partial(build_algorithm, experiment.algorithm)
        self.algorithm = build(self.layout)
        self.aggregation = build_aggregation(experiment.aggregation, self.algorithm.fields(), self.layout)
        self._step = ServerStep(build, self.layout, stages=self.aggregation)
        self._expected: tuple[int, float] | None = None
        self._hypothetical = experiment.privacy.hypothetical_cohort
        self._shared = SharedVectors(self.algorithm, self.aggregation, self.layout)
        self._validation: ValidationLoss | None = None
        self._discount = discount_of(experiment)
        self._hashing = Hashing() if experiment.tracking.chain else None

    def first(self) -> tuple[State, Float32]:
        """State and model before the first round."""
        model = self.algorithm.first_model(self.layout.pack(self._build()).numpy())
        return {**self.algorithm.init(model), **self.aggregation.init(model)}, model

    def shared(self, state: State) -> Float32 | None:
        """The vectors of the state that clients may read, one after the other in float32."""
        return self._shared.pack(state)

    @property
    def mixes(self) -> bool:
        """Whether a step mixes the model with the one that a client has trained."""
        return self._discount.models

    def digest(self, state: State, model: Float32) -> Digesting | None:
        """The digest of a server, which may be made in another thread; None where the run has no chain."""
        return None if self._hashing is None else self._hashing.of(state, model)

    @cached_property
    def wire_down(self) -> int:
        """Bytes that a federation would send to a client: the model, unless a stage encodes it, and what it may read of
        the state, or what the algorithm has in place of them."""
        values = self.algorithm.values_down
        if values is not None:
            return 4 * (values + self._shared.of_stages)
        model = 0 if self.aggregation.sends_model else self.layout.values(self.layout.size)
        return 4 * (model + self._shared.values)

    def apply(
        self,
        round_number: int,
        expected: Int32,
        state: State,
        model: Float32,
        *records: Record,
        opening: SumOpening | None = None,
        begun: tuple[int, Float32] | None = None,
    ) -> tuple[State, Float32, StepFacts]:
        """The next state and model, and facts about the step.

        Adding up the last few sums is part of applying: it is done range of columns by range.

        Args:
            expected: positions of the cohort that must be in the records, each once: all but the recorded drops. An
                asynchronous step that is left without any changes nothing.
            records: of the round's rule, from all workers and nodes.
            opening: what the rule's protocol came to, where it has one and there are records.
            begun: where models are mixed, the number and the model of the version that the step's one client started
                from; None where that is this model.

        Raises:
            RunError: the records do not cover the cohort, do not open, or the weights sum to zero.
            UserCodeError: a step of the user's own fails, or returns what it should not.
        """
        began = time.perf_counter()
        rule = self.aggregation.rule.in_round(round_number)
        every_round = self.aggregation.every_round
        if not len(expected) and not every_round and self.job.experiment.systems.asynchronous:
            return state, model, StepFacts(0.0, 0.0)
        if records or len(expected) or not every_round:
            _check_cover(round_number, expected, records)
        opened = rule.opened(records, opening, self.job.experiment.seed) if len(expected) else records
        weight = sum(one.weight for one in opened)
        if not weight and not every_round:
            raise RunError(
                f"round {round_number}: the weights of the clients that trained sum to zero: those with weight "
                "were left out; see why in clients.parquet, or set aggregation.weights.default above 0"
            )
        checked = time.perf_counter()
        context = self.context(round_number, len(expected))
        with naming(f"round {round_number}"):
            view = _View(self, context, state, model, opening)
            found = rule.finish(opened, view) if weight else Finished(NoClients())
            mixed = None if begun is None else (begun[1], self._discount.of(round_number - 1 - begun[0]))
            fields = found.fields or rule.fields
            next_state, next_model, metrics = self._step(found.mean, fields, state, model, context, mixed)
            if self.aggregation.sends_model:
                with view.computing():
                    next_model, next_state = self.aggregation.model(model, next_model, next_state, context)
        spent = time.perf_counter() - checked
        recorded = {name: float(next_state[name][0]) for name in self.algorithm.recorded}
        metrics = {**found.metrics, **metrics, **recorded}
        around = (0, 0) if opening is None else (opening.up, opening.down)
        return next_state, next_model, StepFacts(checked - began, spent, metrics, found.weights, *around)

    def opened(self, opening: SumOpening, total: Record) -> Record:
        """A round's sum as the holder of its keys opens it.

        Raises:
            RunError: it does not open.
        """
        rule = self.aggregation.rule.in_round(total.round)
        (found,) = rule.opened([total], opening, self.job.experiment.seed)
        return found

    def context(self, round_number: int, contributed: int) -> MeanContext:
        """What stages are told of a step."""
        experiment = self.job.experiment
        if self._expected is None:
            federation = self.job.federation.open()
            weight = expected_weight(experiment, federation) if self.aggregation.fixed else 1.0
            self._expected = cohort_size(experiment, federation.population), weight
        noise = 1.0 if self._hypothetical is None else self._expected[0] / self._hypothetical
        whole = slice(0, self.layout.size)
        return MeanContext(experiment.seed, round_number, (), whole, contributed, *self._expected, noise=noise)

    def validation(self) -> ValidationLoss:
        """Losses on the server's validation set, built when a rule first asks for them."""
        if self._validation is None:
            self._validation = ValidationLoss(self.job, self._build(), self.layout)
        return self._validation

    def save(self, folder: str, state: State, model: Float32, older: Mapping[int, Float32] = _NONE_OLDER) -> None:
        """Write state and model into a checkpoint's folder, and the `older` models that later rounds need.

        Raises:
            OSError: the disk refuses.
        """
        if older:
            save_vectors(Path(folder) / OLDER, {str(number): np.asarray(one) for number, one in older.items()})
        vectors = {"model": np.asarray(model, order="C")} | {
            f"state.{k}": np.asarray(v, order="C") for k, v in state.items()
        }
        save_vectors(Path(folder) / VECTORS, vectors)
        (Path(folder) / LAYOUT).write_text(json.dumps({"layout": self.layout.fingerprint}), encoding="utf-8")

    def load(self, folder: str) -> tuple[State, Float32]:
        """State and model from a checkpoint's folder.

        Raises:
            RunError: the checkpoint is of another model, or not what `save` writes.
        """
        try:
            written = parse_json((Path(folder) / LAYOUT).read_bytes())["layout"]
            if written != self.layout.fingerprint:
                raise RunError(
                    f"{folder}: the checkpoint is of another model; pass the one that the run was started with"
                )
            vectors = read_vectors(Path(folder) / VECTORS)
            model = vectors.pop("model")
            state = {key.removeprefix("state."): value for key, value in vectors.items()}
            self._check_like_first(state, model)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise RunError(f"{folder}: not a checkpoint of raysim ({type(error).__name__}: {error})") from None
        return state, model

    def load_older(self, folder: str) -> dict[int, Float32]:
        """The older models in a checkpoint's folder, by their number.

        Raises:
            RunError: they are damaged.
        """
        path = Path(folder) / OLDER
        if not path.exists():
            return {}
        found = read_vectors(path)
        size = self.layout.size
        if any(not name.isdecimal() or one.shape != (size,) or one.dtype != np.float32 for name, one in found.items()):
            raise RunError(f"{path}: not models of {size:,} columns by their number")
        return {int(name): one for name, one in found.items()}

    def _check_like_first(self, state: State, model: Float32) -> None:
        """Raise a ValueError if state or model are not of the form that they have before the first round."""
        first_state, first_model = self.first()
        found: dict[str, Any] = {"model": model, **state}
        for name, first in {"model": first_model, **first_state}.items():
            like = np.asarray(first)
            if name not in found or (found[name].shape, found[name].dtype) != (like.shape, like.dtype):
                raise ValueError(f"{name!r} is not there, or not {like.dtype} of shape {like.shape}")
        if more := sorted(set(found) - set(first_state) - {"model"}):
            raise ValueError(f"{more[0]!r} is not in the state of {self.job.experiment.algorithm.name}")

    def export(self, path: str, model: Float32) -> None:
        """Write the model as a `.safetensors` file of the module's own names, for `load_state_dict`.

        Of a module with frozen parameters the file has the others, and the fingerprint of the frozen ones.

        Raises:
            OSError: the disk refuses.
        """
        module = self._build()
        self.layout.unpack(torch.from_numpy(model.copy()), module)
        base = base_fingerprint(module)
        tensors: dict[str, torch.Tensor] = {}
        taken: set[int] = set()
        for name, tensor in module.state_dict(keep_vars=True).items():
            if isinstance(tensor, torch.nn.Parameter) and not tensor.requires_grad:
                continue
            memory = tensor.untyped_storage().data_ptr()
            # The format refuses memory that is shared, as that of tied parameters is.
            tensors[name] = (tensor.detach().clone() if memory in taken else tensor.detach()).contiguous()
            taken.add(memory)
        save_tensors(path, tensors, {} if base is None else {BASE: base})


@dataclass(frozen=True, slots=True)
class _View:
    """What a rule may ask about the step that it is part of (`raysim.aggregation.ServerView`)."""

    server: Server
    context: MeanContext
    state: State
    model: Float32
    opening: SumOpening | None = None

    @property
    def round(self) -> int:
        return self.context.round

    @property
    def seed(self) -> int:
        return self.context.seed

    @contextmanager
    def computing(self) -> Iterator[None]:
        with exclusive_torch(), torch_threads(self.server.job.engine.threads), torch.no_grad():
            yield

    def losses(self, means: Sequence[Mapping[str, Float64]]) -> Float64:
        aggregation, apply = self.server.aggregation, self.server.algorithm.apply
        own = aggregation.without_own(self.state)
        outer = (aggregation.server(mean, self.state, self.context)[0] for mean in means)
        return self.server.validation().of([apply(self.model, own, mean)[0] for mean in outer])


def _check_cover(round_number: int, expected: Int32, records: Sequence[Record]) -> None:
    """Raise a RunError if the records are not those of the expected clients."""
    positions, _ = union(records)
    if records[0].round != round_number or not np.array_equal(positions, np.sort(expected)):
        raise RunError(f"round {round_number}: the partial sums do not cover the cohort; nothing was applied")
