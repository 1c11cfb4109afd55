"""The graph of a function of tensors, as torch's tracer finds it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, nullcontext
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule

_DECOMPOSED = ("glu", "glu_backward", "log_sigmoid_forward", "log_sigmoid_backward")
"""Operations that cannot be laid out as a whole: their arguments and results are of several shapes."""


def traced(function: Callable[..., Any], arguments: Sequence[Tensor]) -> GraphModule:
    """The graph of the function; every node that stands for a tensor has its shape.

    Raises:
        Exception: it cannot be traced, or this torch lacks what that takes.
    """
    # What torch promises nothing about is looked up here, where its absence only means that nothing can be captured.
    from torch._decomp import get_decompositions
    from torch.fx.experimental.proxy_tensor import make_fx

    decomposed: Any = get_decompositions([getattr(torch.ops.aten, name) for name in _DECOMPOSED])
    with _one_fake_mode():
        module = make_fx(function, decomposed)(*arguments)
    for node in module.graph.nodes:
        if node.op == "get_attr":  # a constant of the function's own, such as a frozen parameter
            node.meta["tensor_meta"] = getattr(module, node.target)
    return module


def _one_fake_mode() -> AbstractContextManager[Any]:
    """The tracer notes a tensor without values for each node, in a mode that it makes anew for each, which takes half
    of its time, unless it finds one. A torch without these names is slower at most."""
    try:
        from torch._guards import TracingContext, tracing
        from torch._subclasses.fake_tensor import FakeTensorMode

        return tracing(TracingContext(FakeTensorMode(allow_fallback_kernels=True)))
    except (ImportError, TypeError):
        return nullcontext()
