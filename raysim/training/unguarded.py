"""A function of tensors, compiled once for every size of their first dimension, and called without torch's checks.

What `torch.compile` returns asks at every call whether what it was compiled for is still the case, which takes as long
as a small model's arithmetic. Where the arguments' types and layouts are fixed by how they are made, the answer is
known, and the compiled code can be called by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from types import FunctionType
from typing import Any

import torch
from torch import Tensor
from torch._inductor.compile_fx import compile_fx, compile_fx_inner

Source = tuple[int, int | None]
"""Where an argument of the compiled code comes from: which tensor, and which of its sizes, or None for itself."""


def compiled(function: FunctionType, first: Sequence[Tensor], second: Sequence[Tensor]) -> Callable[..., None]:
    """The function, compiled; it must change its arguments in place and return nothing.

    Args:
        function: of tensors that stay as they are in all but their first dimension.
        first, second: arguments to run it on, with another size of the first dimension (≥ 2) each; those that do not
            begin with that dimension are equal in shape. They are changed.

    Raises:
        Exception: torch cannot compile it, or would need other code for other sizes.
    """
    codes: list[Any] = []

    def inner(graph: torch.fx.GraphModule, examples: Sequence[Any], **given: Any) -> Any:
        if codes:
            raise RuntimeError("another number of clients would have to be compiled by itself")
        codes.append(compile_fx_inner(graph, examples, **given))
        return codes[0]

    def backend(graph: torch.fx.GraphModule, examples: list[Any]) -> Any:
        return compile_fx(graph, examples, inner_compile=inner)

    # torch counts compilations by code object, and gives up after a few: each call of this function has its own.
    function = FunctionType(function.__code__.replace(), function.__globals__, closure=function.__closure__)
    for one, other in zip(first, second, strict=True):
        if one.shape != other.shape:
            torch._dynamo.mark_dynamic(one, 0)
            torch._dynamo.mark_dynamic(other, 0)
    # Its other cache would give back what the compiler made without asking for it.
    with torch.no_grad(), torch._functorch.config.patch(enable_autograd_cache=False):
        guarded: Callable[..., None] = torch.compile(function, fullgraph=True, backend=backend)
        guarded(*first)
        guarded(*second)
        return _called_alone(guarded, codes[0], first, second) or guarded


def _called_alone(
    guarded: Callable[..., None], code: Any, first: Sequence[Tensor], second: Sequence[Tensor]
) -> Callable[..., None] | None:
    """A call of the code by itself that does what the guarded function does, if one is found."""
    plain: Callable[[list[Any]], Any] = code.current_callable
    calls: list[list[Any]] = []

    def recorded(arguments: list[Any]) -> Any:
        calls.append(list(arguments))  # it is emptied by the call
        return plain(arguments)

    code.current_callable = recorded
    try:
        guarded(*first)
        guarded(*second)
    finally:
        code.current_callable = plain
    if len(calls) != 2:
        return None
    found = [_source(pair, (first, second)) for pair in zip(*calls, strict=True)]
    sources = [source for source in found if source is not None]
    if len(sources) < len(found):
        return None

    def call(*given: Tensor) -> None:
        plain([given[place] if size is None else given[place].shape[size] for place, size in sources])

    expected, alone = [one.clone() for one in second], [one.clone() for one in second]
    guarded(*expected)
    call(*alone)
    return call if all(map(_same, expected, alone)) else None


def _same(one: Tensor, other: Tensor) -> bool:
    return torch.equal(one.nan_to_num(), other.nan_to_num())


def _source(pair: tuple[Any, Any], given: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Source | None:
    """Where an argument of both calls comes from, if that can be told."""
    one, other = pair
    for place, (first, second) in enumerate(zip(*given, strict=True)):
        if one is first and other is second:
            return place, None
        if isinstance(one, int) and first.shape != second.shape and (one, other) == (len(first), len(second)):
            return place, 0
    return None
