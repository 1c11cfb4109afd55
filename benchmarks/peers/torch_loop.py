"""The floor: federated averaging as one would write it in plain torch, without any framework.

Variants: the number of processes, each with one torch thread. The processes share the work of a round, longest client
first onto the least loaded, and live as long as the run; model and sums are in shared memory. Samples are tensors in
RAM; a client's are shuffled by one gather and cut into batches that are views. `foreach` was the fastest of torch's
three implementations of SGD in a trial, so the sides that let one choose have it too.
"""

from __future__ import annotations

import multiprocessing
import threading
from dataclasses import dataclass

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy
from torch.nn.utils import parameters_to_vector, vector_to_parameters

from peers import models
from peers.side import Meter, Task, say


@dataclass(frozen=True, slots=True)
class Shared:
    """What the processes see alike."""

    model: Tensor
    """`[P]`: the global model."""
    sums: Tensor
    """`[processes, P]`: each one's weighted sum of trained models."""
    work: Tensor
    """`[processes, 3]`: samples, batches and steps that each trained in the round."""
    barrier: threading.Barrier


class Worker:
    """Trains its part of every cohort, round by round."""

    def __init__(self, task: Task, shared: Shared, rank: int) -> None:
        self._task, self._shared, self._rank = task, shared, rank
        self.federation = task.federation()
        self._x, self._y = torch.from_numpy(self.federation.x), torch.from_numpy(self.federation.y)
        self.net = models.build(task.workload)
        self._parameters = list(self.net.parameters())
        self._globals = _views(shared.model, self._parameters)
        self._sums = _views(shared.sums[rank], self._parameters)
        self._optimizer = torch.optim.SGD(self._parameters, lr=task.workload.lr, foreach=True)

    def train(self, number: int) -> None:
        """This worker's clients of round `number`, counted from 0; the sum and the work are left in shared memory."""
        torch._foreach_zero_(self._sums)
        cohort = self.federation.cohorts[number].tolist()
        total = sum(stop - start for start, stop in map(self.federation.span, cohort))
        done = [0, 0, 0]
        for client in self._share(cohort):
            start, stop = self.federation.span(client)
            batches, steps = self._client(start, stop)
            with torch.no_grad():
                torch._foreach_add_(self._sums, self._parameters, alpha=(stop - start) / total)
            done = [a + b for a, b in zip(done, (stop - start, batches, steps), strict=True)]
        self._shared.work[self._rank] = torch.tensor(done)

    def _client(self, start: int, stop: int) -> tuple[int, int]:
        """Train one client from the global model; batches and steps."""
        with torch.no_grad():
            torch._foreach_copy_(self._parameters, self._globals)
        batch, order = self._task.workload.batch, torch.randperm(stop - start) + start
        inputs, labels = self._x[order].split(batch), self._y[order].split(batch)
        batches = steps = 0
        for x, y in zip(inputs, labels, strict=True):
            loss = cross_entropy(self.net(x), y)
            batches += 1
            self._optimizer.zero_grad(set_to_none=True)
            loss.backward()
            self._optimizer.step()
            steps += 1
        return batches, steps

    def _share(self, cohort: list[int]) -> list[int]:
        """This worker's clients: longest first onto the least loaded, by the same rule everywhere."""
        size = {client: stop - start for client in cohort for start, stop in [self.federation.span(client)]}
        loads = [0] * len(self._shared.sums)
        mine = []
        for client in sorted(cohort, key=lambda client: (-size[client], client)):
            rank = loads.index(min(loads))
            loads[rank] += size[client]
            if rank == self._rank:
                mine.append(client)
        return mine


def serve(task: Task, shared: Shared, rank: int) -> None:
    """A process beside the first: trains when the barrier opens, until all rounds are done."""
    torch.set_num_threads(1)
    torch.manual_seed(rank)
    worker = Worker(task, shared, rank)
    shared.barrier.wait()
    for number in range(task.all_rounds):
        shared.barrier.wait()
        worker.train(number)
        shared.barrier.wait()
    shared.barrier.wait()  # until the first has looked at the processor time of all


def main() -> None:
    """Run the task."""
    task = Task.read()
    processes = int(task.variant)
    torch.set_num_threads(1)
    torch.manual_seed(0)
    start = parameters_to_vector(models.build(task.workload).parameters()).detach()
    context = multiprocessing.get_context("fork")
    shared = Shared(
        start.clone().share_memory_(),
        torch.zeros(processes, len(start)).share_memory_(),
        torch.zeros(processes, 3, dtype=torch.int64).share_memory_(),
        context.Barrier(processes),
    )
    others = [context.Process(target=serve, args=(task, shared, rank), daemon=True) for rank in range(1, processes)]
    for other in others:
        other.start()
    worker = Worker(task, shared, 0)
    x_test, y_test = map(torch.from_numpy, (worker.federation.x_test, worker.federation.y_test))
    shared.barrier.wait()
    meter = Meter(task)
    for number in range(task.all_rounds):
        shared.barrier.wait()
        worker.train(number)
        shared.barrier.wait()
        torch.sum(shared.sums, 0, out=shared.model)
        evaluated = _accuracy(worker.net, shared.model, x_test, y_test) if task.workload.evaluated else None
        meter.round(*shared.work.sum(0).tolist(), evaluated)
    shared.barrier.wait()
    final = _accuracy(worker.net, shared.model, x_test, y_test) if len(y_test) else None
    say(meter.result(parameters=models.parameters(worker.net), versions={"torch": torch.__version__}, accuracy=final))
    for other in others:
        other.join()


def _views(vector: Tensor, like: list[nn.Parameter]) -> list[Tensor]:
    parts = vector.split([parameter.numel() for parameter in like])
    return [part.view_as(parameter) for part, parameter in zip(parts, like, strict=True)]


def _accuracy(net: nn.Module, model: Tensor, x: Tensor, y: Tensor) -> float:
    vector_to_parameters(model.clone(), net.parameters())
    return models.accuracy(net, x, y)


if __name__ == "__main__":
    main()
