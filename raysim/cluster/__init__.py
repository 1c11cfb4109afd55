"""The only room that imports Ray: actors, placement on nodes, leases in flight, the reduction across nodes."""

from raysim.cluster.executor import RayExecutor
from raysim.cluster.runtime import Runtime

__all__ = ["RayExecutor", "Runtime"]
