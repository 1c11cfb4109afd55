"""Copies of a module that share what training does not change: one frozen base a process, however many modules use it.

Frozen parameters are those with `requires_grad=False`. A forward pass that writes to one would be seen by every other
module of the process, and by the caller's own; so they are watched.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator

from torch import Tensor, nn

from raysim.errors import ModelError, RunError
from raysim.user_code import passes, told


def frozen_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and parameter of each that is frozen, tied ones once."""
    return ((name, one) for name, one in module.named_parameters() if not one.requires_grad)


def copy_module(module: nn.Module, *, share_frozen: bool = True) -> nn.Module:
    """A copy whose frozen parameters, unless told otherwise, are the same memory.

    Raises:
        ModelError: the module cannot be copied.
    """
    # Subclasses of parameters (of quantised weights, say) know how to copy themselves, and nobody else does.
    shared = [one for _, one in frozen_parameters(module) if share_frozen and type(one) is nn.Parameter]
    return copy_given(module, {id(one): nn.Parameter(one.detach(), requires_grad=False) for one in shared})


def copy_given(module: nn.Module, memo: dict[int, Tensor]) -> nn.Module:
    """A copy in which some tensors, by their id, are replaced.

    Raises:
        ModelError: the module cannot be copied.
    """
    try:
        return copy.deepcopy(module, dict(memo))
    except BaseException as error:  # a user's module may refuse in any way
        if passes(error):
            raise
        refused = ModelError(
            f"model {type(module).__name__} cannot be copied ({told(error)}), and every worker has a copy; give it a "
            "__deepcopy__, or name a function that makes it as model.name"
        )
        refused.users = True
        raise refused from error


class FrozenBase:
    """Frozen parameters of a job's model as this process made them first, for every module that it makes of it later.

    It does not travel: what is unpickled is empty.
    """

    def __init__(self) -> None:
        self._known: dict[str, Tensor] = {}

    def adopt(self, module: nn.Module) -> None:
        """Have the module's frozen parameters be those that are known."""
        for name, one in frozen_parameters(module):
            known = self._known.setdefault(name, one.detach())
            if known.shape == one.shape and known.dtype == one.dtype:
                one.data = known

    def __reduce__(self) -> tuple[type[FrozenBase], tuple[()]]:
        return FrozenBase, ()


class FrozenWatch:
    """Notices that a frozen parameter was written to."""

    def __init__(self, *modules: nn.Module) -> None:
        found = [one for module in modules for one in frozen_parameters(module)]
        self._seen = [(name, one, one._version) for name, one in found]

    def check(self) -> None:
        """Refuse to continue with a changed parameter: a client's result would depend on those trained before it.

        Raises:
            RunError: names it.
        """
        for name, one, version in self._seen:
            if one._version != version:
                raise RunError(
                    f"model: parameter {name!r} is frozen (requires_grad=False) and was written to, by the module's "
                    "forward pass or by your own code while the run trained; make it a buffer, which each client has "
                    "for itself"
                )
