"""A function of tensors, compiled once for every size of their first dimension, and called without torch's checks.

What `torch.compile` returns asks at every call whether what it was compiled for is still the case, which takes as long
as a small model's arithmetic. Where the arguments' types and layouts are fixed by how they are made, the answer is
known, and the compiled code can be called by itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, cast

import torch
from torch import Tensor
from torch._inductor.compile_fx import compile_fx

Source = tuple[int, int | None]
"""Where an argument of the compiled code comes from: which tensor, and which of its sizes, or None for itself."""


def compiled(function: Callable[..., None], first: Sequence[Tensor], second: Sequence[Tensor]) -> Callable[..., None]:
    """The function, compiled; it must change its arguments in place and return nothing.

    Args:
        function: of tensors that stay as they are in all but their first dimension.
        first, second: arguments to run it on, with another size of the first dimension (≥ 2) each; those that do not
            begin with that dimension are equal in shape. They are changed.

    Raises:
        Exception: torch cannot compile it, or would need other code for other sizes.
    """
    calls: list[tuple[Any, ...]] = []
    codes: list[Callable[..., Any]] = []

    def backend(graph: torch.fx.GraphModule, examples: list[Any]) -> Callable[..., Any]:
        if codes:
            raise RuntimeError("another number of clients would have to be compiled by itself")
        codes.append(cast(Callable[..., Any], compile_fx(graph, examples)))

        def recorded(*arguments: Any) -> Any:
            calls.append(arguments)
            return codes[0](*arguments)

        return recorded

    # torch counts compilations by code object, and gives up after a few: each call of this function has its own.
    function = _own_code(function)
    for one, other in zip(first, second, strict=True):
        if one.shape != other.shape:
            torch._dynamo.mark_dynamic(one, 0)
            torch._dynamo.mark_dynamic(other, 0)
    guarded: Callable[..., None] = torch.compile(function, fullgraph=True, backend=backend)
    with torch.no_grad():
        guarded(*first)
        guarded(*second)
    sources = [_source(pair, (first, second)) for pair in zip(*calls, strict=True)]
    if any(source is None for source in sources) or len(codes) != 1:
        return guarded
    return _called(codes[0], [source for source in sources if source is not None])


def _own_code(function: Callable[..., None]) -> Callable[..., None]:
    function.__code__ = function.__code__.replace()
    return function


def _source(pair: tuple[Any, Any], given: tuple[Sequence[Tensor], Sequence[Tensor]]) -> Source | None:
    """Where an argument of both calls comes from, if that can be told."""
    one, other = pair
    for place, (first, second) in enumerate(zip(*given, strict=True)):
        if one is first and other is second:
            return place, None
        if isinstance(one, int) and first.shape != second.shape and (one, other) == (len(first), len(second)):
            return place, 0
    return None


def _called(code: Callable[..., Any], sources: Sequence[Source]) -> Callable[..., None]:
    def call(*given: Tensor) -> None:
        code(*[given[place] if size is None else given[place].shape[size] for place, size in sources])

    return call
