"""The gradient of one client's loss, captured as a graph of tensor operations that serves k clients at once.

`torch.func.vmap` of a gradient says what is to be computed; to run it that way costs a small model several times its
arithmetic, in dispatch. So it is traced, for two different k: what differs between the graphs must be multiples of k,
and becomes so. The graph then runs as plain operations, except that a kernel which sees another alignment, or leaves
the end of a tensor to a scalar loop, gives other bits: for such kernels every client's part gets a boundary of its own.
A client's bits then depend neither on its neighbours, nor on its position, nor on k.
"""

from __future__ import annotations

import operator
import warnings
from collections.abc import Callable, Sequence
from copy import deepcopy
from math import gcd, prod
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.fx import Graph, GraphModule, Node

from raysim.training.layout import ALIGNMENT, TURN
from raysim.training.tracing import traced

Vectorised = Callable[..., tuple[Tensor, ...]]
"""Of tensors `[k, …]`, to tensors `[k, …]`."""

aten: Any = torch.ops.aten

BOUNDARY = 4 * ALIGNMENT
"""Bytes between two boundaries."""
_TRACED = (3, 5)
"""The k that are traced: not one, which kernels treat in its own way, and not multiples of each other."""

_SAME_ANYWHERE = {
    "_to_copy", "abs", "add", "addcmul", "bitwise_and", "bitwise_not", "ceil", "clamp", "clamp_min", "clone", "copy",
    "cos", "div", "eq", "erf", "exp", "expm1", "fill", "floor", "full_like", "ge", "gt", "hardtanh",
    "hardtanh_backward", "le", "leaky_relu", "leaky_relu_backward", "lerp", "log", "log1p", "log2", "logical_and",
    "logical_not", "logical_or", "lt", "masked_fill", "maximum", "minimum", "mul", "ne", "neg", "ones_like",
    "reciprocal", "relu", "round", "rsqrt", "rsub", "scalar_tensor", "sigmoid_backward", "sign", "sin", "sqrt",
    "square", "sub", "tanh", "tanh_backward", "threshold_backward", "where", "zeros_like",
}  # fmt: skip
"""Elementwise operations whose scalar and vectorised loops give the same bits: IEEE 754 leaves them no choice, or the
kernel pads the end of a tensor by itself. The others, sigmoid and powers among them, were seen to differ."""

_ELEMENTWISE = {
    "binary_cross_entropy", "binary_cross_entropy_backward", "elu_backward", "hardsigmoid_backward", "hardswish",
    "hardswish_backward", "huber_loss", "huber_loss_backward", "mish_backward", "mse_loss_backward", "smooth_l1_loss",
    "smooth_l1_loss_backward", "softplus_backward",
}  # fmt: skip
"""Elementwise operations that torch does not tag as such."""

_WRITES = "its forward pass changes its buffers (such as the statistics of batch normalisation) or its parameters"

_VIEWS = {"aten.view.default", "aten._unsafe_view.default"}

_SAME_SHAPE_SAME_VALUE = _VIEWS | {"aten.expand.default", "aten.detach.default"}


class CannotCapture(Exception):
    """The function cannot be vectorised over clients; says why."""


def capture(
    function: Vectorised, example: Callable[[int], Sequence[Tensor]], *, align_products: bool = True
) -> Vectorised:
    """The graph of a vectorised function, for any k ≥ 2.

    Args:
        function: traced as it is; it may use other tensors, which must stay as they are.
        example: arguments for k clients.
        align_products: whether the products of matrices begin on boundaries as well; many shapes do not need it.

    Raises:
        CannotCapture: it draws random numbers, looks at values to decide what to compute, or is beyond what is captured
            here; or this torch lacks what capturing takes.
    """
    try:
        with warnings.catch_warnings():  # of what torch would do slowly, and is refused here
            warnings.simplefilter("ignore", UserWarning)
            _check_reads_only(function, example(2))
            module, twin = (traced(function, example(k)) for k in _TRACED)
        _drop_no_ops(module.graph)
        _drop_no_ops(twin.graph)
        _generalise(module, twin)
        _lay_out(module.graph, align_products)
        module.graph.lint()
        captured = GraphModule(module, module.graph)
    except CannotCapture:
        raise
    except Exception as error:  # torch refuses in many ways, and its internals change from release to release
        raise CannotCapture(why_not(error)) from error
    return captured.forward


def last_alone(captured: Vectorised) -> Vectorised:
    """A captured function without all but the last of its results, and without what only those take."""
    module: Any = getattr(captured, "__self__")  # noqa: B009 - of the function, a method
    graph = deepcopy(module.graph)
    (output,) = (node for node in graph.nodes if node.op == "output")
    output.args = ((output.args[0][-1],),)
    graph.eliminate_dead_code()
    graph.lint()
    alone: Vectorised = GraphModule(module, graph).forward
    return alone


def _check_reads_only(function: Vectorised, arguments: Sequence[Tensor]) -> None:
    before = [argument.clone() for argument in arguments]
    function(*arguments)
    if not all(torch.equal(argument, copy) for argument, copy in zip(arguments, before, strict=True)):
        raise CannotCapture(_WRITES)


def why_not(error: Exception) -> str:
    """Why something cannot be captured, in a line, from what torch or the module says."""
    text = str(error)
    if "in-place operation" in text:
        return _WRITES
    if "random" in text:
        return "its modules draw random numbers in training (such as dropout), which belong to each client alone"
    if ".item()" in text or "data-dependent" in text:
        return "it looks at values to decide what to compute"
    return f"torch cannot vectorise it ({type(error).__name__}: {(text.strip().splitlines() or [''])[0][:160]})"


def _drop_no_ops(graph: Graph) -> None:
    """Remove what only gives its argument back."""
    for node in graph.nodes:
        target, args = node.target, node.args
        reshaped = str(target) in _SAME_SHAPE_SAME_VALUE and _shape(node) == _shape(args[0])
        if reshaped or (target is aten.mul.Scalar and args[1] == 1):
            node.replace_all_uses_with(args[0])
        elif target is aten.transpose.int and args[0].target is target and args[0].args[1:] == args[1:]:
            node.replace_all_uses_with(args[0].args[0])
    graph.eliminate_dead_code()


def _shape(node: Any) -> tuple[int, ...]:
    return tuple(node.meta["tensor_meta"].shape)


def _generalise(module: GraphModule, twin: GraphModule) -> None:
    """Make the graph for the first traced k one for any, by what is different in its twin for the second."""
    from torch.utils import _pytree as pytree

    graph, nodes, twins = module.graph, list(module.graph.nodes), list(twin.graph.nodes)
    if [(one.op, one.target) for one in nodes] != [(one.op, one.target) for one in twins]:
        raise CannotCapture("it computes in another way for another number of clients")
    inputs = [node for node in nodes if node.op == "placeholder"]
    with graph.inserting_after(inputs[-1]):
        k = graph.call_function(len, (inputs[0],))
    multiples: dict[int, Node] = {1: k}

    def general(a: Any, b: Any) -> Any:
        if isinstance(a, Node) or a == b:
            return a
        factor, remainder = divmod(a, _TRACED[0])
        if type(a) is not int or remainder or b != factor * _TRACED[1]:
            raise CannotCapture(f"it computes with {a} for {_TRACED[0]} clients and with {b} for {_TRACED[1]}")
        if factor not in multiples:
            with graph.inserting_after(k):
                multiples[factor] = graph.call_function(operator.mul, (k, factor))
        return multiples[factor]

    for node, other in zip(nodes, twins, strict=True):
        if node.op == "get_attr" and not _same(getattr(module, node.target), getattr(twin, other.target)):
            raise CannotCapture("it computes with other constants for another number of clients")
        leaves, structure = pytree.tree_flatten((node.args, node.kwargs))
        others = pytree.tree_leaves((other.args, other.kwargs))
        changed = [general(a, b) for a, b in zip(leaves, others, strict=True)]
        node.args, node.kwargs = pytree.tree_unflatten(changed, structure)


def _same(one: Tensor, other: Tensor) -> bool:
    """Whether two constants are equal; NaN is equal to NaN."""
    return one is other or (
        one.shape == other.shape and bool(torch.isclose(one, other, rtol=0, atol=0, equal_nan=True).all())
    )


def _lay_out(graph: Graph, align_products: bool) -> None:
    """Replace the operations whose bits depend on where in a tensor, or in memory, a value is."""
    for node in graph.nodes:
        target = node.target
        if node.op != "call_function" or not isinstance(target, torch._ops.OpOverload):
            continue
        if target is aten.bmm.default:
            node.target = filled_bmm if align_products else aligned_bmm
        elif str(target) in _VIEWS:  # of what is contiguous in the traced graph, and may have gaps in this one
            node.target = aten.reshape.default
        elif _is_elementwise(target) and _name(target) not in _SAME_ANYWHERE:
            node.args = (target, *node.args)
            node.target = in_whole_turns


def _is_elementwise(operation: torch._ops.OpOverload) -> bool:
    return torch.Tag.pointwise in operation.tags or _name(operation) in _ELEMENTWISE


def _name(operation: torch._ops.OpOverload) -> str:
    """Of one of torch's own operations, without the overload; of another, with its library."""
    library, name = operation.namespace, operation.overloadpacket.__name__
    return str(name) if library == "aten" else f"{library}.{name}"


def aligned_bmm(a: Tensor, b: Tensor) -> Tensor:
    """`torch.bmm` of `[k, m, n]` and `[k, n, p]`, all of whose matrices begin on 64-byte boundaries."""
    return torch.bmm(_aligned(a), _aligned(b))


def filled_bmm(a: Tensor, b: Tensor) -> Tensor:
    """The same, with products that do so too.

    For that `m` is filled up: with `out=` of a wider stride, the products would be computed one by one.
    """
    m = a.shape[1]
    boundary = BOUNDARY // a.element_size()
    unit = boundary // gcd(b.shape[2], boundary)
    if m % unit == 0:
        return aligned_bmm(a, b)
    return aligned_bmm(_filled_up(a, -(-m // unit) * unit), b)[:, :m]


def _filled_up(matrices: Tensor, m: int) -> Tensor:
    """`[k, m, n]`, aligned, with zeros in the last rows."""
    k, given, n = matrices.shape
    if matrices.stride(2) != 1 and matrices.stride(1) == 1:  # keep a transposed one transposed
        wide = room(k, (n, m), matrices).transpose(1, 2)
    else:
        wide = room(k, (m, n), matrices)
    wide[:, given:] = 0
    wide[:, :given] = matrices
    return wide


def room(k: int, shape: Sequence[int], like: Tensor) -> Tensor:
    """An uninitialised tensor `[k, *shape]`, of which every `[i]` is contiguous on a 64-byte boundary."""
    size, boundary = prod(shape), BOUNDARY // like.element_size()
    if size % boundary == 0:
        return like.new_empty((k, *shape))
    padded = like.new_empty((k, -(-size // boundary) * boundary))
    return padded[:, :size].view(k, *shape)


def _aligned(matrices: Tensor) -> Tensor:
    if matrices.stride(0) % (BOUNDARY // matrices.element_size()) == 0:
        return matrices
    if matrices.stride(2) != 1 and matrices.stride(1) == 1:  # keep a transposed one transposed
        return _aligned(matrices.transpose(1, 2)).transpose(1, 2)
    return room(len(matrices), matrices.shape[1:], matrices).copy_(matrices)


def in_whole_turns(operation: Callable[..., Tensor], *args: Any, **kwargs: Any) -> Tensor:
    """An elementwise operation whose vectorised loop does everything, each turn of it for one client alone.

    `args` are tensors `[k, …]` that broadcast against each other, and others.
    """
    tensors = [arg for arg in args if isinstance(arg, Tensor) and arg.ndim]
    if not tensors:
        return operation(*args, **kwargs)
    shape = torch.Size(np.broadcast_shapes(*(one.shape for one in tensors)))
    size = shape[1:].numel()
    if size % (2 * TURN) == 0:  # whole turns of 16-bit values, too
        return operation(*args, **kwargs)
    padded = [_padded(arg, shape, size) if isinstance(arg, Tensor) and arg.ndim else arg for arg in args]
    return operation(*padded, **kwargs)[:, :size].view(shape)


def _padded(tensor: Tensor, shape: torch.Size, size: int) -> Tensor:
    wide = tensor.new_ones((shape[0], -(-size // (2 * TURN)) * (2 * TURN)))
    wide[:, :size].view(shape).copy_(tensor)
    return wide
