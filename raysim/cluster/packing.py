"""The job as actors receive it: its model's structure and values once, a large frozen base in a file of the cache."""

from __future__ import annotations

from dataclasses import replace

from raysim.cluster.runtime import import_ray
from raysim.data.store.cache import cache_folder
from raysim.errors import DataError, ModelError, StorageError
from raysim.execution.placement.memory import mapped_bytes
from raysim.models import LazyBlueprint
from raysim.rounds.job import Job


def packed_job(job: Job, frozen: int) -> tuple[Job, str | None]:
    """The job to send to actors, and what is worth noting of it.

    A model by name is built here only for the sake of a large base; otherwise every actor builds it by itself.

    Args:
        frozen: bytes of the model's frozen parameters.

    Raises:
        ModelError: a module that was handed over cannot be sent.
    """
    large = mapped_bytes(job, frozen) > 0
    if job.module is None and not large:
        return job, None
    try:
        blueprint = job.travelling(job.federation.open().info, import_ray().cloudpickle.CloudPickler)
    except ModelError:
        if job.module is not None:
            raise
        return job, None  # what a function makes need not travel
    note = None
    if large:
        try:
            blueprint = blueprint.with_file(cache_folder(job.experiment.data.cache))
        except (DataError, StorageError) as error:
            note = f"each actor holds the model's frozen base in memory: {error}"
    return replace(job, module=None, blueprint=LazyBlueprint(blueprint)), note
