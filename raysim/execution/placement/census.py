"""A job's client actors: what each class of clients asks of the machines, put together from the job alone."""

from __future__ import annotations

from collections.abc import Sequence

from raysim.arrays import Int64
from raysim.config.running import ExecutionConfig
from raysim.data import Federation
from raysim.errors import ConfigError
from raysim.execution.placement.classes import ClientClasses
from raysim.execution.placement.demand import demands
from raysim.execution.placement.memory import ActorMemory, Skeleton
from raysim.execution.placement.placing import Placer
from raysim.execution.placement.slots import Node
from raysim.selection.cohort import cohort_size
from raysim.training import LocalWork


def placer(skeleton: Skeleton, memory: ActorMemory, nodes: Sequence[Node]) -> Placer:
    """What places the actors of a job; `nodes` are the machines at the start, the driver's own first.

    Raises:
        PlacementError: a class of clients wants what no node can give.
    """
    job = skeleton.job
    experiment, federation = job.experiment, job.federation.open()
    cohort = cohort_size(experiment, federation.population)
    counted = None
    if experiment.execution.classes:
        work = skeleton.algorithm.work(experiment.client)
        counted = census(experiment.execution, federation, work, job.engine.device)
    wanted = demands(experiment.execution, population=federation.population, cohort=cohort, census=counted)
    return Placer(nodes, wanted, cohort=cohort, actor_bytes=memory.total, gpu_bytes=memory.gpu, node_bytes=memory.base)


def census(execution: ExecutionConfig, federation: Federation, work: LocalWork, device: str) -> tuple[Int64, Int64]:
    """Clients of each class of a configuration, and their local steps a round; the default class first.

    Raises:
        ConfigError: a class is empty, overlaps another, names a client that does not exist, or has no GPU where the
            others compute on one.
    """
    classes, sizes = ClientClasses(execution), federation.sizes("train")
    clients, steps = classes.census(sizes, work.count(sizes))
    if device == "cuda":
        shares = [("execution", execution.num_gpus)]
        shares += [(f"execution.classes.{name}", one.num_gpus) for name, one in execution.classes.items()]
        for (key, gpus), count in zip(shares, clients.tolist(), strict=True):
            if count and gpus == 0:
                raise ConfigError(
                    f"{key}.num_gpus: all actors compute on the same kind of device, and others have a GPU; "
                    "give each class a share of one, or set execution.device=cpu"
                )
    return clients, steps
