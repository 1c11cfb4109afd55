"""What a worker does, wherever it runs: trains leases of clients and evaluates the model."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress
from dataclasses import replace
from functools import partial

import numpy as np
import torch

from raysim.aggregation import Question, Record, Weighting, build_aggregation, discount_of
from raysim.algorithms import build_algorithm
from raysim.arrays import Bools, Float32, Float64, Int64
from raysim.errors import ClientError, DataError, RaysimError, RunError, UserCodeError
from raysim.evaluation.client_sets import client_sets
from raysim.evaluation.summaries import together
from raysim.execution.clients.broadcast import SharedVectors
from raysim.execution.clients.folding import Folding, fold_block
from raysim.execution.clients.holdouts import Holdouts, fine_tuner
from raysim.execution.clients.local_training import client_vectors, local_trainer, local_update, saving
from raysim.execution.clients.loss_contexts import LossContexts
from raysim.execution.clients.reporting import LeaseNotes, handed_over
from raysim.execution.clients.shards import DeviceShards
from raysim.execution.clients.state import ClientStates, StateLayout
from raysim.execution.clients.writing import written
from raysim.execution.scheduling.schedule import even_blocks
from raysim.models import FrozenWatch, exclusive_torch
from raysim.rounds.environment import pin_gpu_bits
from raysim.rounds.faults import client_error
from raysim.rounds.job import Job
from raysim.rounds.lease import Lease, LeaseReport
from raysim.rounds.ranges import ClientRange, Evaluated, EvaluationRange, NodeRange, PromptRange, TrainRange
from raysim.rounds.rows import PARTS
from raysim.training import (
    BlockInputs,
    BlockResult,
    CannotCapture,
    Evaluator,
    ExamplePrivacy,
    ParameterLayout,
    RoundSetting,
    build_engine,
    copy_into,
    evaluated_metrics,
    resolve_client_loss,
    resolve_loss,
    round_rates,
    to_device,
    torch_threads,
)
from raysim.training.metrics import ConfusionCounts, WholeSet
from raysim.user_code import passes, user_code


class ClientWorker:
    """Hosts clients: their shards, one engine, one evaluator. Keeps nothing between rounds but caches."""

    def __init__(self, job: Job, index: int) -> None:
        self.job, self.index = job, index
        self.federation = job.federation.open()
        self.device = job.engine.torch_device
        if self.device.type == "cuda":
            pin_gpu_bits()
        with self._own_setting():
            self._build()

    def _build(self) -> None:
        job, experiment, info = self.job, self.job.experiment, self.federation.info
        module, judge = (job.build_module(info, self.device) for _ in range(2))
        layout = self._layout = ParameterLayout(module)
        loss = resolve_loss(experiment.training, info, job.handed)
        client_loss = resolve_client_loss(experiment.training, info, job.handed)
        self.contexts = LossContexts(client_loss, self.federation, self.device)
        self.algorithm = build_algorithm(experiment.algorithm, layout)
        self.weighting = Weighting(experiment.aggregation.weights)
        self.metrics = evaluated_metrics(experiment, info, job.handed)
        self.evaluator = Evaluator(
            judge, layout, loss, self.metrics, info, self.device, experiment.evaluation.batch_size
        )
        self._frozen = FrozenWatch(module, self.evaluator.module)
        update = local_update(job, self.algorithm, compiled=job.engine.compiled)
        features = self.algorithm.feature_loss()
        self.shards = DeviceShards(self.federation, self.device, experiment.execution.shard_memory)
        work = self.algorithm.work(experiment.client)
        try:
            saved = saving(experiment)
            privacy = ExamplePrivacy.of(experiment.client)
            engine = build_engine(job.engine, module, layout, client_loss, info, work, update, features, saved, privacy)
        except CannotCapture as reason:
            raise RunError(f"this worker cannot train rows as the driver can: {reason}") from reason
        self._frozen.check()
        self.trainer = local_trainer(job, self.algorithm, engine, update, info)
        aggregation = build_aggregation(experiment.aggregation, self.algorithm.fields(), layout)
        self.states = StateLayout((*client_vectors(experiment, self.algorithm), *aggregation.client_state()))
        tuner, seed = fine_tuner(job, self.algorithm, layout, engine), experiment.seed
        self.holdouts = Holdouts(
            self.federation,
            self.evaluator,
            self.algorithm,
            self.states,
            self.shards,
            self.contexts,
            tuner,
            seed,
            client_sets(experiment, self.federation),
        )
        self._shared = SharedVectors(self.algorithm, aggregation, layout)
        self._whole_sets: dict[str, WholeSet] = {}
        self._folding = Folding(aggregation, layout, self.device, experiment.seed, discount_of(experiment))
        self._broadcast = torch.zeros(layout.size, device=self.device)

    def train(
        self, lease: Lease, model: Float32, shared: Float32 | None = None, states: ClientStates | None = None
    ) -> tuple[Record, LeaseReport]:
        """`train_into` for a lease whose clients one step takes in, as in synchronous rounds: its record and report."""
        (found,) = self.train_into(lease, model, shared, states)
        return found

    def train_into(
        self, lease: Lease, model: Float32, shared: Float32 | None = None, states: ClientStates | None = None
    ) -> list[tuple[Record, LeaseReport]]:
        """Train the lease's clients from the model `[P]`, which is only read: for each step that takes in some of them,
        ascending, their record and the facts about them.

        Args:
            shared: the server's vectors that clients may read, where there are any (`Server.shared`).
            states: what the clients keep from round to round, where they keep something.

        Raises:
            ClientError: a client's own code failed; names the client, the round and the error.
            RunError: a frozen parameter was written to.
        """
        with self._own_setting(), torch.enable_grad():
            trained = self._train(lease, model, shared, states)
        self._frozen.check()
        return trained

    def answer(self, question: Question) -> list[bytes]:
        """What its clients answer to a question of the rule's protocol.

        Raises:
            RunError: one of them refuses.
        """
        protocol = self._folding.protocol
        assert protocol is not None, "a rule without a protocol asks no client"
        return protocol.answer(self.job.experiment.seed, question)

    def prefetch(self, clients: Int64) -> None:
        """Get hold of shards that are trained next, while there is nothing else to do."""
        with suppress(DataError):  # who trains them says what is wrong
            self.shards.prefetch(clients)

    def _train(
        self, lease: Lease, model: Float32, shared: Float32 | None, states: ClientStates | None
    ) -> list[tuple[Record, LeaseReport]]:
        began = time.perf_counter()
        self._receive(model)
        server, of_stages = self._shared.unpack(shared, self.device)
        received = time.perf_counter()
        folds = self._folding.of(lease, of_stages)
        experiment = self.job.experiment
        _, rates = round_rates(experiment, self.trainer.work, lease.round)
        setting = RoundSetting(
            experiment.seed, lease.round, lease.lr, experiment.client.optimizer, lease.participation, rates
        )
        count = len(lease.clients)
        notes, steps = LeaseNotes.of(self.federation.sizes("train", lease.clients)), lease.steps
        parts = dict.fromkeys(PARTS, 0.0)
        for block in even_blocks(count, self.trainer.engine.capacity):
            block_began = time.perf_counter()
            state = None
            if states is not None:
                state = self.states.taken_up(states, lease.clients[block], self._broadcast)
            kept = {} if state is None else self.states.views(state)
            part = None if lease.part is None else lease.part[block]
            inputs = BlockInputs(steps[block], server, kept, turn=lease.turn[block], part=part)
            result, factor, clamped = self._block(setting, lease.clients[block], inputs)
            trained = time.perf_counter() - block_began
            notes.loss[block], notes.tokens[block], notes.clamped[block] = result.loss, result.tokens, clamped
            counted = fold_block(folds, block, factor, result.sent, state, kept)
            if states is not None and state is not None:
                counted = counted[steps[block][counted] > 0]
                states.write(lease.clients[block][counted], state.cpu().numpy()[counted])
                notes.keepers.append(lease.clients[block][counted])
            spent = time.perf_counter() - block_began
            notes.seconds[block] = spent * (steps[block] + 1) / (steps[block] + 1).sum()
            parts["train/shards"] += trained - sum(result.seconds.values())
            parts["train/batches"] += result.seconds["batches"]
            parts["train/steps"] += result.seconds["steps"]
            parts["train/fold"] += spent - trained
        phases = {"broadcast": received - began, "train": time.perf_counter() - received, **parts}
        return handed_over(folds, notes, phases, self.index)

    def _block(self, setting: RoundSetting, clients: Int64, inputs: BlockInputs) -> tuple[BlockResult, Float64, Bools]:
        """Train a block of clients; what came out, the factor of each one's weight, and which had to be clamped."""
        try:
            shards = self.shards.of(clients)
            factors, clamped = self._factors(clients, shards.count)
            inputs = replace(inputs, context=self.contexts.of(clients), losses=partial(self._losses, clients))
            return self.trainer.train(setting, self._broadcast, clients, shards, inputs), factors, clamped
        except (ClientError, RunError):
            raise
        except BaseException as error:  # the user's code may raise anything
            if isinstance(error, KeyboardInterrupt) and passes(error):
                raise
            if len(clients) > 1:  # one of them is to blame
                for one in range(len(clients)):
                    self._block(setting, clients[one : one + 1], inputs.only(one))
            if isinstance(error, RaysimError) and passes(error) and not isinstance(error, UserCodeError):
                if len(clients) == 1:
                    error.client, error.round = int(clients[0]), setting.round
                raise
            users = isinstance(error, UserCodeError)
            raise client_error(clients, setting.round, error) from (error.__cause__ if users else error)

    def _losses(self, clients: Int64, models: Sequence[torch.Tensor]) -> torch.Tensor:
        """Mean losses of models `[P]` on the clients' training samples, `[clients, models]`; 1 without samples."""
        losses, shards = np.ones((len(clients), len(models))), [self.federation.shard(c) for c in clients.tolist()]
        for j, model in enumerate(models):
            self.evaluator.load(model)
            for i, shard in enumerate(shards):
                if len(shard):
                    losses[i, j] = self.evaluator.mean_loss(shard)
        return to_device(losses, self.device)

    def _factors(self, clients: Int64, samples: Int64) -> tuple[Float64, Bools]:
        """The factor of each client's weight by its loss under the broadcast model, and which were clamped."""
        if not self.weighting.needs_loss:
            return np.ones(len(clients)), np.zeros(len(clients), np.bool_)
        losses = self._losses(clients, [self._broadcast])[:, 0].cpu().numpy()
        pairs = zip(losses.tolist(), samples.tolist(), strict=True)
        found = [self.weighting.factor(loss) if count else (1.0, False) for loss, count in pairs]
        return np.array([factor for factor, _ in found]), np.array([clamped for _, clamped in found])

    def evaluate(
        self,
        ranges: Sequence[EvaluationRange],
        model: Float32,
        states: ClientStates | None = None,
        shared: Float32 | None = None,
    ) -> list[Evaluated]:
        """What the model `[P]` measures over each range; of clients' own sets the models that clients would use."""
        with self._own_setting():
            self._receive(model)
            server = self._shared.unpack(shared, self.device)[0] if self.algorithm.personal else {}
            evaluated = together(self._evaluated(ranges, states, server))
        self._frozen.check()
        return evaluated

    def _evaluated(
        self, ranges: Sequence[EvaluationRange], states: ClientStates | None, server: Mapping[str, torch.Tensor]
    ) -> Iterator[Evaluated]:
        for part in ranges:
            with user_code(part.text):
                found = self._evaluate(part, states, server)
            yield from found

    def _evaluate(
        self, part: EvaluationRange, states: ClientStates | None, server: Mapping[str, torch.Tensor]
    ) -> list[Evaluated]:
        if isinstance(part, NodeRange):
            return self.holdouts.of_nodes(part, self._broadcast, states, server)
        if isinstance(part, ClientRange):
            return self.holdouts.evaluate(part.clients, self._broadcast, states, server)
        self.evaluator.load(self._broadcast)
        if isinstance(part, PromptRange):
            return [written(part, self.evaluator, self.job.experiment.seed)]
        if isinstance(part, TrainRange):
            losses = [self.evaluator.loss_moments(self.federation.shard(client)) for client in part.clients.tolist()]
            return [Evaluated("train", np.array(losses, dtype=np.float64).reshape(-1, 2), part.clients)]
        samples = self.federation.server(part.part)
        assert samples is not None, f"the driver asks only for sets that exist, not for {part.part!r}"
        if part.part not in self._whole_sets:
            self._whole_sets[part.part] = WholeSet.of(samples)
        whole = self._whole_sets[part.part]
        confusion = ConfusionCounts.of(self.federation.info)
        sums, scores = self.evaluator.exact_sums(samples.slice(part.start, part.stop), whole, confusion, part)
        confused = None if confusion is None else confusion.counts()
        return [Evaluated(part.part, sums, scores=scores, confused=confused)]

    @contextmanager
    def _own_setting(self) -> Iterator[None]:
        """Torch for this thread alone, with the run's number of threads and generators that may be moved; the caller's
        come back afterwards."""
        with exclusive_torch(self.device), torch_threads(self.job.engine.threads):
            yield

    def _receive(self, model: Float32) -> None:
        # A copy: the array is shared with other processes, and torch would not stop a write to it.
        copy_into(self._broadcast, model)
