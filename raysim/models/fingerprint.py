"""A module that was handed over in memory is recognised again by its fingerprint."""

from __future__ import annotations

import hashlib
from itertools import chain

import torch
from torch import nn

from raysim.errors import ModelError
from raysim.models.fit import check_trainable, check_values
from raysim.user_code import user_code


def fingerprint(module: nn.Module) -> str:
    """SHA-256 of the class, the tree of submodules, and every parameter's and buffer's name, shape and value.

    Raises:
        ModelError: the module has nothing to train in float32 (see `check_trainable`), a tensor on the meta device,
            or code of its own that fails.
    """
    with user_code("model", ModelError):
        check_values(module)
        check_trainable(module)
        # The tree as it prints shows what parameters do not: activations, strides, dropout rates.
        tree = f"{type(module).__qualname__}\n{module!r}\n"
        if any(one.training for one in module.modules()):  # what stays in evaluation mode while the rest trains
            names = [name for name, one in module.named_modules() if not one.training]
            tree += "".join(f"{name} in evaluation mode\n" for name in names)
    digest = hashlib.sha256(tree.encode())
    tensors = (module.named_parameters(remove_duplicate=False), module.named_buffers(remove_duplicate=False))
    for name, tensor in chain.from_iterable(tensors):
        digest.update(f"{name} {tuple(tensor.shape)} {tensor.dtype} {tensor.requires_grad}\n".encode())
        digest.update(tensor.detach().cpu().contiguous().reshape(-1).view(torch.uint8).numpy().data)
    return digest.hexdigest()
