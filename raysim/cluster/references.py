"""What actors are handed when they are made: an object in the store that they find again after a restart."""

from __future__ import annotations

import os
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic, TypeVar, cast

from raysim.config import import_folders, importable
from raysim.rounds.digests import ServerDigest

if TYPE_CHECKING:
    from raysim.cluster.runtime import Runtime

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reference(Generic[T]):
    """Where an actor finds an object of the driver's.

    Attributes:
        pickled: a reference to the object, which Ray then keeps for as long as the driver lives. A plain one among a
            constructor's arguments it may not find again for a restart, as it warns.
        directory: the driver's working directory, which import strings and relative paths start from.
        folders: others that import strings are looked up in.
    """

    pickled: bytes
    directory: str
    folders: tuple[str, ...] = ()

    @classmethod
    def put(cls, value: T) -> Reference[T]:
        """Store the object once, for all actors."""
        import ray

        pickle: Any = ray.cloudpickle
        return cls(pickle.dumps(ray.put(value)), str(Path.cwd()), import_folders())

    def enter(self) -> None:
        """Have import strings and relative paths mean what they mean on the driver."""
        if self.directory not in sys.path:
            sys.path.insert(0, self.directory)
        for folder in self.folders:
            importable(folder)
        if Path(self.directory).is_dir():
            os.chdir(self.directory)

    def fetch(self) -> T:
        """The object, in the driver's working directory."""
        import ray

        self.enter()
        return cast(T, ray.get(ray.cloudpickle.loads(self.pickled)))


@dataclass(frozen=True, slots=True)
class AskedDigest:
    """A digest that an actor makes (`raysim.rounds.digests.Digesting`)."""

    runtime: Runtime
    reference: Any

    def result(self) -> ServerDigest:
        """The digest; waits for it."""
        found: ServerDigest = self.runtime.get(self.reference)
        return found
