"""A function of tensors, compiled once for every size of their first dimension, and called without torch's checks.

What `torch.compile` returns asks at every call whether what it was compiled for is still the case, which takes as long
as a small model's arithmetic. Where the arguments' types and layouts are fixed by how they are made, the answer is
known, and the compiled code can be called by itself.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from importlib import import_module
from operator import itemgetter
from types import FunctionType
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True, slots=True)
class Compiled:
    """A compiled function.

    Attributes:
        call: of the function's arguments.
        checked: why each call goes through torch's checks; empty where the code is called by itself.
    """

    call: Callable[..., None]
    checked: str = ""


class MustCheck(Exception):
    """The code cannot be called by itself; says why."""


def compiled(function: FunctionType, first: Sequence[Tensor], second: Sequence[Tensor]) -> Compiled:
    """The function, compiled; it must change its arguments in place and return nothing.

    Args:
        function: of tensors that stay as they are in all but their first dimension.
        first, second: arguments to run it on, with another size of the first dimension (≥ 2) each; those that do not
            begin with that dimension are equal in shape. They are changed.

    Raises:
        Exception: torch cannot compile it, or would need other code for other sizes.
    """
    # Two seconds and 150 MB, only where steps are compiled. A torch without these modules compiles nothing.
    from torch._dynamo import mark_dynamic
    from torch._inductor.compile_fx import compile_fx, compile_fx_inner

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
            mark_dynamic(one, 0)
            mark_dynamic(other, 0)
    # Its other cache would give back what the compiler made without asking for it.
    no_cache = _option("torch._functorch.config", enable_autograd_cache=False)
    # The code's own checks of sizes are among those whose answer is known.
    unchecked = _option("torch._inductor.config", size_asserts=False)
    # A size that differs from that of an earlier function of this name, in this process, would become a variable.
    by_itself = _option("torch._dynamo.config", automatic_dynamic_shapes=False)
    with torch.no_grad(), no_cache, unchecked, by_itself, _without_reports():
        guarded: Callable[..., None] = torch.compile(function, fullgraph=True, backend=backend)
        guarded(*first)
        guarded(*second)
        if not codes:
            raise RuntimeError("torch gave back code that was not compiled here")
        try:
            return Compiled(_called_alone(guarded, codes[0], first, second))
        except MustCheck as reason:
            return Compiled(torch.no_grad()(guarded), str(reason))


def _option(module: str, **values: Any) -> AbstractContextManager[Any]:
    """One of torch's private settings, inside the block; a torch without it is left as it is, and is slower at most."""
    try:
        config = import_module(module)
        known = all(hasattr(config, name) for name in values)
        return config.patch(**values) if known else nullcontext()
    except (ImportError, AttributeError):
        return nullcontext()


@contextmanager
def _without_reports() -> Iterator[None]:
    """Without torch's own pages about what it cannot compile: that is raised, and the caller reports it in one line."""
    logger = logging.getLogger("torch._guards")
    was, logger.disabled = logger.disabled, True
    try:
        yield
    finally:
        logger.disabled = was


def _called_alone(
    guarded: Callable[..., None], code: Any, first: Sequence[Tensor], second: Sequence[Tensor]
) -> Callable[..., None]:
    """A call of the code by itself that does what the guarded function does.

    Raises:
        MustCheck: none is found.
    """
    plain: Callable[[list[Any]], Any] | None = getattr(code, "current_callable", None)
    if plain is None:
        raise MustCheck(f"torch {torch.__version__} keeps its compiled code under another name")
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
        raise MustCheck(f"torch {torch.__version__} ran its compiled code {len(calls)} times in two calls")
    # What the code takes, in its own order: tensors as they were given, their first size, and what is always the same.
    lead = [one.shape != other.shape for one, other in zip(first, second, strict=True)].index(True)
    known = [(*given, len(given[lead])) for given in (first, second)]
    constants: list[int] = []
    order: list[int] = []
    for one, other in zip(*calls, strict=True):
        places = [i for i, pair in enumerate(zip(*known, strict=True)) if _is(pair[0], one) and _is(pair[1], other)]
        if not places and isinstance(one, int) and one == other:
            places = [len(first) + 1 + len(constants)]
            constants.append(one)
        if not places:
            raise MustCheck(f"torch {torch.__version__} passes its compiled code something beside the arguments")
        order.append(places[0])
    chosen = itemgetter(*order)

    def call(*given: Tensor) -> None:
        plain(list(chosen((*given, given[lead].shape[0], *constants))))

    if not _same(guarded, call, second):
        raise MustCheck(f"called by itself, the code that torch {torch.__version__} compiled computes something else")
    return call


def _is(known: Any, found: Any) -> bool:
    return known is found or (isinstance(known, int) and isinstance(found, int) and known == found)


def _same(one: Callable[..., None], other: Callable[..., None], arguments: Sequence[Tensor]) -> bool:
    """Whether both leave the same bits behind. The arguments are changed, not copied: a copy has other strides."""
    before, found = [argument.clone() for argument in arguments], []
    for call in (one, other):
        for argument, value in zip(arguments, before, strict=True):
            argument.copy_(value)
        call(*arguments)
        found.append([argument.clone().nan_to_num() for argument in arguments])
    return all(map(torch.equal, *found))
