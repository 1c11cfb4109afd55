"""A captured graph whose operations are called by torch's own functions.

A traced graph calls `torch.ops.aten.bmm.default`, which goes through Python and torch's stack of boxed values at every
call, where `torch.bmm` is one function in C. In a small model's step that is most of the time. Which operation the
function runs depends on its arguments; so each one is called both ways on an example, and takes the operation's place
only where torch is seen to run the same operations and to come to the same bits.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, MethodDescriptorType
from typing import Any

import torch
from torch import Tensor
from torch.fx import GraphModule, Interpreter, Node

from raysim.training.capture import BOUNDARY, Vectorised, aligned_bmm

_ONE_KERNEL = {"Scalar", "Tensor"}
"""Overloads that are one kernel: a number is a tensor of one value to it."""


def straight(captured: Vectorised, example: Sequence[Tensor]) -> Vectorised:
    """A captured function that calls torch's own functions as far as they are the same; once for each.

    Args:
        example: arguments of the function, which it is tried on.

    Returns:
        The function as it is where this torch lacks what the trial takes.
    """
    module: Any = getattr(captured, "__self__", None)
    if not isinstance(module, GraphModule):
        return captured
    kept: dict[str, Vectorised] = vars(module)
    if "straight" not in kept:
        kept["straight"] = _straight(module, example) or captured
    return kept["straight"]


def _straight(module: GraphModule, example: Sequence[Tensor]) -> Vectorised | None:
    try:
        from torch.utils._python_dispatch import TorchDispatchMode
    except ImportError:
        return None

    class Record(TorchDispatchMode):  # type: ignore[no-untyped-call]  # torch has no types for it
        """The operations that run inside."""

        def __init__(self) -> None:
            super().__init__()  # type: ignore[no-untyped-call]
            self.found: list[Any] = []

        def __torch_dispatch__(self, func: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
            self.found.append(func)
            return func(*args, **(kwargs or {}))

    def recorded(call: Callable[..., Any], args: Sequence[Any], kwargs: Any) -> tuple[Any, list[Any]]:
        with Record() as record:
            result = call(*args, **kwargs)
        return result, record.found

    class Trial(Interpreter):
        """Runs the graph and notes, for each operation, the function that does the same."""

        found: dict[str, Callable[..., Any]]

        def run_node(self, n: Node) -> Any:
            target: Any = n.target
            result = super().run_node(n)
            own = _OURS.get(target) or _function_of(target) if n.op == "call_function" else None
            if own is not None:
                args, kwargs = self.fetch_args_kwargs_from_env(n)
                try:
                    slow, fast = (recorded(one, args, kwargs) for one in (target, own))
                    same = target in _OURS or _same_operations(slow[1], fast[1])
                    if same and _same_values(slow[0], fast[0]):
                        self.found[n.name] = own
                except Exception:  # it takes other arguments, or gives values that cannot be compared
                    return result
            return result

    trial = Trial(module)
    trial.found = {}
    trial.run(*example)
    made = GraphModule(module, _with(module, trial.found))
    return made.forward


def _with(module: GraphModule, functions: dict[str, Callable[..., Any]]) -> torch.fx.Graph:
    """A copy of the graph that calls these functions, by the names of nodes."""
    graph, values = torch.fx.Graph(), dict[Node, Node]()
    output = graph.graph_copy(module.graph, values)
    graph.output(output)
    for node, copy in values.items():
        copy.target = functions.get(node.name, copy.target)
        if copy.target is len:  # which torch has in Python
            copy.target, copy.args = Tensor.size, (*copy.args, 0)
    graph.lint()
    return graph


def _bmm(a: Tensor, b: Tensor) -> Tensor:
    """`aligned_bmm`, in fewer calls."""
    boundary = BOUNDARY // a.element_size()
    return torch.bmm(
        _moved(a, boundary) if a.stride(0) % boundary else a, _moved(b, boundary) if b.stride(0) % boundary else b
    )


def _moved(matrices: Tensor, boundary: int) -> Tensor:
    """`[k, m, n]` with every matrix on a boundary of its own; a transposed one stays so."""
    shape = matrices.shape
    _, m, n = shape
    wide = -(-m * n // boundary) * boundary
    transposed = matrices.stride(2) != 1 and matrices.stride(1) == 1
    return matrices.new_empty_strided(shape, (wide, 1, m) if transposed else (wide, n, 1)).copy_(matrices)


_OURS: dict[Any, Callable[..., Any]] = {aligned_bmm: _bmm}


def _function_of(target: Any) -> Callable[..., Any] | None:
    """torch's function, or a tensor's method, of the name of an operation without side effects, if it is in C."""
    if not isinstance(target, torch._ops.OpOverload) or target.namespace != "aten" or target._schema.is_mutable:
        return None
    name = target.overloadpacket.__name__
    for place in (torch, Tensor):
        found = getattr(place, name, None)
        if isinstance(found, BuiltinFunctionType | MethodDescriptorType):
            return found
    return None


def _same_operations(some: Sequence[Any], others: Sequence[Any]) -> bool:
    return len(some) == len(others) and all(
        one is other
        or (one.overloadpacket is other.overloadpacket and {one._overloadname, other._overloadname} == _ONE_KERNEL)
        for one, other in zip(some, others, strict=True)
    )


def _same_values(one: Any, other: Any) -> bool:
    if isinstance(one, Tensor) and isinstance(other, Tensor):
        alike = one.shape == other.shape and one.stride() == other.stride() and one.dtype == other.dtype
        return alike and torch.equal(one.nan_to_num(), other.nan_to_num()) and torch.equal(one.isnan(), other.isnan())
    if isinstance(one, tuple | list) and isinstance(other, tuple | list) and len(one) == len(other):
        return all(map(_same_values, one, other))
    return one is other
