"""What can be left out of a step of rows without changing a bit, found out by trial: the companion of a client that
trains alone, and the matrix of gradients between a gradient and its plain descent."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor

from raysim.training.capture import Vectorised
from raysim.training.foreach import add_each
from raysim.training.row_batches import RowBatches
from raysim.training.row_examples import RowExamples


def shorter(gradient: Vectorised, rows: Tensor, examples: RowExamples, batches: RowBatches) -> tuple[int, bool]:
    """How many rows are computed at least, and whether plain descent goes parameter by parameter (`descend`).

    Args:
        rows: where clients train, `[K, P]`, with values; they stay as they are.
    """
    most = len(rows)
    placed = examples.placed(most, batches)
    rows = rows * torch.linspace(0.5, 1.5, most, device=rows.device)[:, None]
    alone = _alike_alone(gradient, [*examples.layout.views(rows).values(), *examples.beside_values(most, placed)])
    fewest = 1 if alone else 2
    if examples.apart:
        return fewest, False
    return fewest, all(_same_descent(gradient, rows[:k], examples, placed) for k in {fewest, 2, min(3, most), most})


def descend(
    gradient: Vectorised, values: Sequence[Tensor], moved: Sequence[Tensor], others: Sequence[Tensor], lr: float
) -> Tensor:
    """A step of k clients: `moved -= lr * gradients`; returns the losses `[k]`.

    Args:
        values: of each segment, of the k clients and perhaps of companions, `[≥ k, *shape]`.
        moved: the k clients' parameters, `[k, *shape]` each, views of the same memory.
        others: the function's arguments after the values.
    """
    *grads, losses = gradient(*values, *others)
    if (k := moved[0].shape[0]) < losses.shape[0]:
        grads, losses = [grad[:k] for grad in grads], losses[:k]
    add_each(moved, grads, alpha=-lr)
    return losses


def _alike_alone(gradient: Vectorised, arguments: Sequence[Tensor]) -> bool:
    """Whether each of several clients comes to the same bits alone as beside the others.

    Args:
        gradient: of arguments `[k, …]`, to results `[k, …]`.
        arguments: of the clients; they should differ from each other.
    """
    try:
        beside = gradient(*arguments)
        for i in range(len(arguments[0])):
            alone = gradient(*(one[i : i + 1] for one in arguments))
            if not all(torch.equal(one, other[i : i + 1]) for one, other in zip(alone, beside, strict=True)):
                return False
    except Exception:  # kernels may refuse what they are never given
        return False
    return True


def _same_descent(gradient: Vectorised, rows: Tensor, examples: RowExamples, placed: Sequence[Tensor]) -> bool:
    """Whether `descend` gives rows the bits of a step along a matrix of gradients.

    It does not where a gradient is part of the rows' own memory, or where its end is left to a loop that rounds
    differently.
    """
    layout, others = examples.layout, examples.beside_values(len(rows), placed)
    plain, other = rows.clone(), rows.clone()
    *grads, losses = gradient(*layout.views(plain).values(), *others)
    memory = {one.untyped_storage().data_ptr() for one in (plain, *others)}
    if any(grad.untyped_storage().data_ptr() in memory for grad in grads):
        return False
    matrix = torch.zeros_like(plain[:, : layout.trainable])
    for place, grad in zip(layout.views(matrix).values(), grads, strict=True):
        place.copy_(grad)
    plain[:, : layout.trainable].add_(matrix, alpha=-0.1)
    with torch.inference_mode():
        values = list(layout.views(other).values())
        found = descend(gradient, values, values[: len(layout.parameters)], others, 0.1)
    return torch.equal(plain, other) and torch.equal(losses, found)
