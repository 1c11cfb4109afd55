"""How a module is made, anywhere: its structure, the frozen base that all share, and copies of the other tensors."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace
from itertools import chain
from pathlib import Path

import torch
from torch import Tensor, nn

from raysim.data.federation import DataInfo
from raysim.models.base_store import BaseFile, storable
from raysim.models.calling import Calling
from raysim.models.frozen import frozen_parameters
from raysim.models.on_meta import emptied
from raysim.models.preferring import PairInputs
from raysim.models.structure import PicklerClass, Structure
from raysim.models.transformer_inputs import TransformerInputs
from raysim.models.travelling import Packed, packed, unpacked

CPU = torch.device("cpu")
PLAIN = Calling()


class Blueprint:
    """What modules are made from: a structure, and the frozen parameters that they share, in memory or in a file."""

    def __init__(
        self,
        structure: Structure,
        frozen: Mapping[int, str],
        registered: frozenset[int],
        file: BaseFile | None = None,
        calling: Calling = PLAIN,
    ) -> None:
        """Args:
        frozen: names of the frozen parameters, by their number in the structure.
        registered: numbers of all parameters and buffers.
        file: where the frozen parameters are that a file can hold.
        calling: how modules are called.
        """
        self._structure, self._frozen, self._registered, self.file = structure, frozen, registered, file
        self.calling = calling
        self._bases: dict[torch.device, dict[int, Tensor]] = {}

    @classmethod
    def of(cls, module: nn.Module, pickler: PicklerClass | None = None, calling: Calling = PLAIN) -> Blueprint:
        """The blueprint of a module, whose tensors it keeps and does not change.

        Args:
            pickler: for a blueprint that travels to other processes (see `Structure.of`).
            calling: how the modules that are made from it are called.

        Raises:
            ModelError: the module cannot be copied, or not be sent.
        """
        structure = Structure.of(module, pickler)
        number = {id(tensor): i for i, tensor in enumerate(structure.tensors)}
        # Subclasses of parameters (of quantised weights, say) know how to copy themselves; nothing else does.
        frozen = [(name, one) for name, one in frozen_parameters(module) if type(one) is nn.Parameter]
        registered = (number[id(one)] for one in chain(module.parameters(), module.buffers()) if id(one) in number)
        by_number = {number[id(one)]: name for name, one in frozen if id(one) in number}
        return cls(structure, by_number, frozenset(registered), calling=calling)

    @property
    def base(self) -> dict[str, Tensor]:
        """The frozen parameters by name, on the CPU."""
        return {self._frozen[i]: tensor for i, tensor in self._base(CPU).items()}

    def with_base(self, base: Mapping[str, Tensor]) -> Blueprint:
        """With these frozen parameters, as far as they are of the same shape and type."""
        tensors = list(self._structure.tensors)
        for i, name in self._frozen.items():
            known = base.get(name)
            if known is not None and (known.shape, known.dtype) == (tensors[i].shape, tensors[i].dtype):
                tensors[i] = nn.Parameter(known, requires_grad=False)
        structure = replace(self._structure, tensors=tuple(tensors))
        return Blueprint(structure, self._frozen, self._registered, calling=self.calling)

    def with_file(self, cache: Path) -> Blueprint:
        """With the frozen parameters in a file of the cache, which all processes of a node map.

        Raises:
            DataError, StorageError: the cache cannot be written.
        """
        found = {name: self._structure.tensors[i] for i, name in self._frozen.items()}
        file = BaseFile.keep({name: one for name, one in found.items() if storable(one, name)}, cache)
        return Blueprint(self._structure, self._frozen, self._registered, file, self.calling)

    def instantiate(self, device: torch.device = CPU, *, share_frozen: bool = True, called: bool = True) -> nn.Module:
        """A module of the caller's own, in the modes that the original was in.

        Args:
            device: where it is to be; frozen parameters are moved there once.
            share_frozen: whether its frozen parameters are the memory of the original's, or copies as well.
            called: whether it is called with one tensor of samples; otherwise as its author made it.

        Raises:
            ModelError: a tensor, or a part with a `__deepcopy__`, cannot be copied.
            DataError: the file of the base is not there.
        """
        base = self._base(device if share_frozen else CPU)
        values = {i: tensor.detach() if share_frozen else tensor.clone() for i, tensor in base.items()}
        module = self._structure.build({i: nn.Parameter(one, requires_grad=False) for i, one in values.items()})
        if called:
            self.calling.attach(module)
        return module if device == CPU else module.to(device)

    def on_meta(self) -> nn.Module:
        """A module whose parameters and buffers have shapes and no values.

        Raises:
            ModelError: a tensor that is neither, or a part with a `__deepcopy__`, cannot be copied.
        """
        values = dict(enumerate(self._structure.tensors))
        values |= {i: nn.Parameter(one, requires_grad=False) for i, one in self._found().items()}
        return self.calling.attach(self._structure.build({i: emptied(values[i]) for i in self._registered}))

    def _base(self, device: torch.device) -> dict[int, Tensor]:
        if device not in self._bases:
            self._bases[device] = {i: tensor.to(device) for i, tensor in self._found().items()}
        return self._bases[device]

    def _found(self) -> dict[int, Tensor]:
        """The frozen parameters where they are: in memory, or in a map of the file."""
        mapped = {} if self.file is None else self.file.map()
        return {i: mapped.get(name, self._structure.tensors[i]).detach() for i, name in self._frozen.items()}

    def _in_file(self, number: int) -> bool:
        name = self._frozen.get(number)
        return self.file is not None and name is not None and storable(self._structure.tensors[number], name)

    @property
    def of_transformer(self) -> bool:
        """Whether its modules are transformers of the Hugging Face library."""
        return isinstance(self.calling.before, TransformerInputs | PairInputs)

    @property
    def travels(self) -> bool:
        """Whether another process can receive it."""
        return self._structure.travels

    def __reduce__(self) -> tuple[Callable[..., Blueprint], tuple[object, ...]]:
        structure = self._structure
        tensors = [None if self._in_file(i) else packed(one) for i, one in enumerate(structure.tensors)]
        structured = structure.name, structure.program, tensors
        return _arrived, (*structured, self._frozen, self._registered, self.file, self.calling)


def _arrived(
    name: str,
    program: bytes,
    tensors: Sequence[Packed | Tensor | None],
    frozen: Mapping[int, str],
    registered: frozenset[int],
    file: BaseFile | None,
    calling: Calling,
) -> Blueprint:
    found = [torch.empty(0) if one is None else unpacked(one) for one in tensors]
    for i in frozen:
        found[i] = found[i].clone()  # modules have it as it is, and what arrived may be read-only
    return Blueprint(Structure(name, program, tuple(found)), frozen, registered, file, calling)


class LazyBlueprint:
    """A blueprint that is made when a process needs its first module; one that can travel does, and no other."""

    def __init__(self, made: Blueprint | None = None) -> None:
        self._made, self._base = made, dict[str, Tensor]()
        self._transformer = None if made is None else made.of_transformer

    def get(
        self, build: Callable[[], nn.Module], info: DataInfo, *, cut: bool = False, auxiliary: Iterable[str] = ()
    ) -> Blueprint:
        """The blueprint, at first that of the module that `build` returns, called on samples like these.

        Args:
            cut, auxiliary: see `Calling.of`.
        """
        if self._made is None:
            module = build()
            calling = Calling.of(module, info, cut=cut, auxiliary=auxiliary)
            self._made = Blueprint.of(module, calling=calling).with_base(self._base)
            self._transformer = self._made.of_transformer
        return self._made

    def of_transformer(
        self, build: Callable[[], nn.Module], info: DataInfo, *, cut: bool = False, auxiliary: Iterable[str] = ()
    ) -> bool:
        """Whether its modules are transformers of the Hugging Face library; one is built if none has been (`get`)."""
        if self._transformer is None:
            self.get(build, info, cut=cut, auxiliary=auxiliary)
        return bool(self._transformer)

    def release(self) -> None:
        """Forget the values of what is trained, if they can be built again; the next module will have the same base."""
        if self._made is not None and not self._made.travels:
            self._base = self._made.base
            self._made = None

    def __reduce__(self) -> tuple[type[LazyBlueprint], tuple[Blueprint | None]]:
        return LazyBlueprint, (self._made if self._made is not None and self._made.travels else None,)
