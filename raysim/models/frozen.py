"""Frozen parameters: those with `requires_grad=False`. All modules of a process share them, so they are watched.

A forward pass that writes to one would be seen by every other module of the process, and by the caller's own.
"""

from __future__ import annotations

import hashlib
from collections.abc import Iterator

import torch
from torch import nn

from raysim.errors import RunError

BASE = "base"
"""Where a file of what trains says which frozen parameters it belongs to: the key in its header."""


def frozen_parameters(module: nn.Module) -> Iterator[tuple[str, nn.Parameter]]:
    """Name and parameter of each that is frozen, tied ones once."""
    return ((name, one) for name, one in module.named_parameters() if not one.requires_grad)


def base_fingerprint(module: nn.Module) -> str | None:
    """SHA-256 of the frozen parameters, their names and types; None where there are none."""
    digest, found = hashlib.sha256(), False
    for name, one in frozen_parameters(module):
        found = True
        digest.update(f"{name} {tuple(one.shape)} {one.dtype}\n".encode())
        digest.update(one.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest() if found else None


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
