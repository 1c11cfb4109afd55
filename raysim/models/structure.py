"""A module taken apart: its structure as bytes, its tensors by number; built again with any of the tensors replaced.

The bytes are what `pickle` makes of the module, in memory; nothing is ever unpickled from a file. Within a process,
what `copy.deepcopy` would not copy either (functions, classes, weak references) stays outside the bytes, and an object
with a `__deepcopy__` is copied by it, so that every module that can be copied can be taken apart. For another process
the caller brings a pickler that writes functions and classes by value (Ray's cloudpickle).
"""

from __future__ import annotations

import copyreg
import io
import pickle
import types
import weakref
from collections.abc import Mapping
from contextlib import nullcontext
from dataclasses import dataclass
from itertools import chain
from typing import Any

from torch import Tensor, nn

from raysim.errors import ModelError
from raysim.user_code import passes, told

_PROTOCOL = 4
"""The one whose `__reduce_ex__` `copy.deepcopy` asks for."""
_ATOMS = (types.FunctionType, types.BuiltinFunctionType, types.CodeType, property, weakref.ref)
_PARAMETRIZED = "torch.nn.utils.parametrize"

PicklerClass = type[pickle.Pickler]
"""Writes a structure; it never reads one."""
Key = tuple[str, int]
"""What a reference in the bytes says: `tensor`, `atom` or `own`, and a number."""


@dataclass(frozen=True, slots=True)
class Structure:
    """A module without its tensors.

    Attributes:
        name: the module's class, for errors.
        program: what `pickle` made of it.
        tensors: as they were found, each once: parameters, buffers, and those that are neither.
        atoms: what is the same object in every module that is built.
        own: objects that are copied by their own `__deepcopy__`.
    """

    name: str
    program: bytes
    tensors: tuple[Tensor, ...]
    atoms: tuple[object, ...] = ()
    own: tuple[object, ...] = ()

    @property
    def travels(self) -> bool:
        """Whether another process can build it."""
        return not self.atoms and not self.own

    @classmethod
    def of(cls, module: nn.Module, pickler: PicklerClass | None = None) -> Structure:
        """Take a module apart, which stays as it is.

        Args:
            pickler: for a structure that travels to another process; by default it stays in this one.

        Raises:
            ModelError: it cannot be pickled.
        """
        kind: Any = _Local if pickler is None else type("_Travelling", (_Travelling, pickler), {})
        name = type(module).__name__
        with _copying(name, "copied" if pickler is None else "sent to another process"):
            file = io.BytesIO()
            writer = kind(file, _PROTOCOL)
            writer.found = found = _Found()
            writer.dump(module)
        return cls(name, file.getvalue(), tuple(found.tensors), tuple(found.atoms), tuple(found.own))

    def build(self, given: Mapping[int, Tensor]) -> nn.Module:
        """A module with these tensors, by number, in the place of those that were found, and copies of the others.

        Raises:
            ModelError: it cannot be built, or a tensor not be copied. In another process than its own any error passes.
        """
        reader = _Reader(self, given)
        with nullcontext() if self.travels else _copying(self.name):
            module: nn.Module = reader.load()
        return module


class _Found:
    """Tensors and objects by number, each once; alive, so that ids stay theirs."""

    def __init__(self) -> None:
        self.tensors: list[Tensor] = []
        self.atoms: list[object] = []
        self.own: list[object] = []
        self._keys: dict[int, Key] = {}

    def key(self, kind: str, value: Any, among: list[Any]) -> Key:
        if id(value) not in self._keys:
            self._keys[id(value)] = kind, len(among)
            among.append(value)
        return self._keys[id(value)]


class _Referring:
    """The part of a pickler that leaves tensors out."""

    found: _Found

    def persistent_id(self, value: Any) -> Key | None:
        return self.found.key("tensor", value, self.found.tensors) if isinstance(value, Tensor) else None

    def reducer_override(self, value: Any) -> Any:
        if isinstance(value, types.MethodType):  # by itself it would be looked up by name
            return types.MethodType, (value.__func__, value.__self__)
        if isinstance(value, nn.Module) and _parametrized(value):  # torch refuses to pickle it
            new: Any = copyreg.__newobj__  # type: ignore[attr-defined]  # typeshed lacks it
            return new, (type(value),), vars(value), None, None, _set_attributes
        general: Any = getattr(super(), "reducer_override", None)
        return NotImplemented if general is None else general(value)


class _Travelling(_Referring):
    """For another process: all but the tensors is written."""


class _Local(_Referring, pickle.Pickler):
    """For this process."""

    def persistent_id(self, value: Any) -> Key | None:
        if isinstance(value, Tensor):
            return super().persistent_id(value)
        if isinstance(value, type) or type(value) in _ATOMS:
            return self.found.key("atom", value, self.found.atoms)
        if hasattr(type(value), "__deepcopy__") and not _parametrized(value):
            if isinstance(value, nn.Module):  # its tensors are known to it as those of any other module
                for tensor in chain(value.parameters(), value.buffers()):
                    super().persistent_id(tensor)
            return self.found.key("own", value, self.found.own)
        return None


class _Reader(pickle.Unpickler):
    """Builds a module, with copies of the tensors that are not given."""

    def __init__(self, structure: Structure, given: Mapping[int, Tensor]) -> None:
        super().__init__(io.BytesIO(structure.program))
        self._structure = structure
        self._memo: dict[int, Any] = {}  # that of `__deepcopy__`: by it, views of one storage stay views of one
        self._built: dict[Key, Any] = {("tensor", number): tensor for number, tensor in given.items()}

    def persistent_load(self, key: Key) -> Any:
        if key not in self._built:
            self._built[key] = self._copied(*key)
        return self._built[key]

    def _copied(self, kind: str, number: int) -> Any:
        if kind == "atom":
            return self._structure.atoms[number]
        if kind == "tensor":
            tensor: Any = self._structure.tensors[number]
            return tensor.__deepcopy__(self._memo)
        value: Any = self._structure.own[number]
        if isinstance(value, nn.Module):
            for i, one in enumerate(self._structure.tensors):
                self._memo.setdefault(id(one), self.persistent_load(("tensor", i)))
        return value.__deepcopy__(self._memo)


class _copying:
    """Tells of whatever a user's module raises while it is copied in one line."""

    def __init__(self, name: str, what: str = "copied") -> None:
        self._name, self._what = name, what

    def __enter__(self) -> None:
        return

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: object) -> None:
        if error is None or passes(error):
            return
        remedy = "give it a __deepcopy__" if self._what == "copied" else "give it a __reduce__"
        refused = ModelError(
            f"model {self._name} cannot be {self._what} ({told(error)}), and every worker has a copy; {remedy}, or "
            "name a function that makes it as model.name"
        )
        refused.users = True
        raise refused from error


def _parametrized(value: object) -> bool:
    """Whether torch put a class of its own before a module's, which can be deep-copied and not pickled."""
    return getattr(getattr(type(value), "__deepcopy__", None), "__module__", "") == _PARAMETRIZED


def _set_attributes(module: nn.Module, attributes: Mapping[str, Any]) -> None:
    vars(module).update(attributes)
