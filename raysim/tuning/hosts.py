"""Objects that live in processes of their own, one at a time in each: for whole simulations side by side."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from raysim.cluster.faults import as_raised
from raysim.cluster.references import Reference
from raysim.cluster.runtime import Runtime
from raysim.errors import RaysimError, RunError
from raysim.user_code import told, user_code


@dataclass(frozen=True, slots=True)
class Answer:
    """The answer to a call.

    Attributes:
        lost: the process died, and its object with it; another one has taken its place.
    """

    host: int
    value: Any = None
    error: Exception | None = None
    lost: bool = False


class ObjectHost:
    """The actor: keeps one object, and what is shared by all of them."""

    def __init__(self, shared: Reference[Any]) -> None:
        shared.enter()
        user_code.interruptible = False
        self._shared = shared
        self._object: Any = None

    def make(self, factory: Callable[..., Any], *arguments: Any) -> None:
        """Build the object; what goes wrong is kept for the first call."""
        self._object = None
        try:
            self._object = factory(*arguments, *self._shared.fetch())
        except Exception as error:
            self._object = error

    def call(self, method: str, *arguments: Any) -> Any:
        """Call a method of the object."""
        if isinstance(self._object, Exception):
            raise self._object
        return getattr(self._object, method)(*arguments)


class ObjectHosts:
    """Several hosts, each with at most one call out. `make` an object, `call` it, `wait` for an answer of any."""

    def __init__(self, runtime: Runtime, count: int, *, num_cpus: float, num_gpus: float, shared: Any) -> None:
        """Start the processes. `shared` is handed to every object after its own arguments; stored once."""
        self._runtime, self._ray, self._resources = runtime, runtime.ray, {"num_cpus": num_cpus, "num_gpus": num_gpus}
        self._shared = Reference.put(shared)
        self._hosts = [self._started() for _ in range(count)]
        self._out: dict[Any, int] = {}

    def make(self, host: int, factory: Callable[..., Any], *arguments: Any) -> None:
        """Have the host build an object, `factory(*arguments, *shared)`."""
        self._hosts[host].make.remote(factory, *arguments)

    def call(self, host: int, method: str, *arguments: Any) -> None:
        """Call a method of its object."""
        self._out[self._hosts[host].call.remote(method, *arguments)] = host

    def wait(self) -> Answer:
        """The next answer to any call."""
        ready = self._runtime.wait(list(self._out), math.inf)
        host = self._out.pop(ready[0])
        try:
            return Answer(host, self._runtime.get(ready[0]))
        except self._ray.exceptions.RayTaskError as error:
            own = isinstance(error.cause, RaysimError)
            return Answer(host, error=as_raised(error) if own else RunError(f"a trial failed: {told(error.cause)}"))
        except self._ray.exceptions.RayActorError as error:
            self._hosts[host] = self._started()
            return Answer(host, error=error, lost=True)

    def end(self, host: int, method: str) -> None:
        """Forget the call that is out at this host, and have its object call a last method."""
        for reference in [reference for reference, at in self._out.items() if at == host]:
            del self._out[reference]
        self._hosts[host].call.remote(method)

    def close(self) -> None:
        """Stop the processes."""
        if self._ray.is_initialized() and not self._runtime.health.lost:
            for host in self._hosts:
                self._ray.kill(host)

    def _started(self) -> Any:
        return self._ray.remote(ObjectHost).options(**self._resources).remote(self._shared)
