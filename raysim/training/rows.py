"""The vectorised engine: K clients train at once, as the rows of one matrix."""

from __future__ import annotations

from itertools import repeat

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.models.modes import TrainingModes
from raysim.training.capture import CannotCapture, Vectorised, last_alone
from raysim.training.captured import captured_gradient
from raysim.training.codes import Codes, LocalUpdate
from raysim.training.engine import Block, Engine
from raysim.training.examples import ExamplePrivacy, NoisySums
from raysim.training.features import FeatureLoss, FeatureTerm
from raysim.training.foreach import copy_each
from raysim.training.inputs import Correction, Rates, Some
from raysim.training.layout import ALIGNMENT, ParameterLayout, flat_values
from raysim.training.losses import ClientLoss, Loss, cross_entropy, row_cross_entropy
from raysim.training.row_batches import RowBatches, Turn
from raysim.training.row_examples import RowExamples
from raysim.training.shorter import descend, shorter
from raysim.training.straight import straight
from raysim.training.trial import dependence, somewhere_near
from raysim.training.whole_step import NotWhole, WholeStep

_TRIED = ALIGNMENT + 1
"""Positions that are tried: by then, the alignment of whatever is computed in rows begins anew."""
_SMALL = 1 << 18
"""Values of a model up to which this many rows are tried; of a larger model fewer are, as its matrices are wide."""


class RowsEngine(Engine):
    """All rows of a block in one go: the gradient of the loss, vectorised over clients and captured as a graph.

    Every batch is as long as `batch_size`; a short one is filled up with samples that weigh nothing. A client that
    trains alone has an idle companion, unless a trial shows that it has the same bits without. On a GPU, which may have
    other kernels for fewer rows, with other bits, all K rows are always there: those that have finished, and idle ones,
    keep the others company (`shrinks` is false).
    """

    name = "rows"
    shrinks = True
    codes: Codes
    """The compiled code; empty where there is none."""
    _fewest = 2
    """Rows that are computed at least."""
    _in_place = False
    """Whether plain descent goes without a matrix of gradients."""

    def __init__(
        self,
        module: nn.Module,
        layout: ParameterLayout,
        loss: Loss | ClientLoss,
        info: DataInfo,
        device: torch.device,
        rows: int,
        batch_size: int,
        *,
        compiled: bool = False,
        update: LocalUpdate | None = None,
        bf16: bool = False,
        feature_loss: FeatureLoss | None = None,
        privacy: ExamplePrivacy | None = None,
    ) -> None:
        """Capture the gradient, and check that a row's bits depend on nothing but the row.

        Args:
            module: the engine's from now on.
            rows: K.
            compiled: by `torch.compile`, which needs a C++ compiler and takes seconds; kept on disk for the next run.
            update: what is compiled along with the gradient, so that `take` takes whole steps; None is nothing.
            feature_loss: what is added to the loss; not where it is compiled.
            privacy: what protects the clients' samples; not where it is compiled.

        Raises:
            CannotCapture: the model cannot be trained this way; says why.
        """
        self.info, self.device, self.batch_size = info, device, batch_size
        self._layout, self._capacity = layout, rows
        self.shrinks = device.type != "cuda"
        self._features = None if feature_loss is None else FeatureTerm(module, feature_loss)
        loss = row_cross_entropy if loss is cross_entropy else loss
        TrainingModes(module.to(device)).train()
        self.noisy = None if privacy is None else NoisySums(privacy, layout, device)
        clip = None if privacy is None else privacy.clip
        self._allocate(_TRIED if layout.size <= _SMALL else 5)
        self.rows[:] = somewhere_near(layout, module)
        self._examples = RowExamples(
            info,
            batch_size,
            layout,
            self.rows[0].clone(),
            self._peers,
            getattr(loss, "shape", None),
            privacy is not None,
        )
        self._update = update or LocalUpdate(None, None, (), plain=True)
        self.codes = Codes()
        for align_products in (False, True):
            self._gradient = captured_gradient(
                module,
                layout,
                loss,
                self._features,
                self._examples.all,
                bf16=bf16,
                align_products=align_products,
                clip=clip,
            )
            self._fast = self._gradient if compiled else straight(self._gradient, self._examples.all(3))
            if compiled:
                self._compile()
            if (fault := self._fault()) is None:
                break
        else:
            raise CannotCapture(fault)
        if self.shrinks and not compiled:
            self._fewest, self._in_place = shorter(self._fast, self.rows, self._examples, self._batches)
        self._allocate(max(rows, 2))
        self._forward: Vectorised | None = None

    def _allocate(self, width: int) -> None:
        self.rows = torch.zeros((width, self._layout.size), device=self.device)
        self.grad = torch.zeros((width, self._layout.trainable), device=self.device)
        self._spare = None
        self._turn: Turn | None = None
        self._known_views: dict[tuple[int, bool, bool], list[Tensor]] = {}
        self._other = False
        self._batches = RowBatches(self.info, self.batch_size, width, self.rows, apart=self.noisy is not None)

    @property
    def capacity(self) -> int:
        return self._capacity

    @property
    def _peers(self) -> int:
        return 0 if self._features is None else self._features.peers

    def load(self, block: Block) -> None:
        k = len(block.keys)
        width = self._width(k)
        self._batches.load(block, width)
        if self.noisy is not None:
            self.noisy.load(block.shards, block.noise)
        if k < width:
            self.rows[k:width] = self.rows[0]
        context = block.context
        self._context = None if context is None else context[self._beside(k, width)] if k < width else context
        self._ends, self._turn = block.plan.steps.tolist(), None
        # Without other models, those that train are their own, and the term is zero.
        given = block.peers[: self._peers] or (self.rows[:k],) * self._peers
        self._peer_rows = [torch.empty_like(self.rows[:width]).copy_(peer[self._beside(k, width)]) for peer in given]

    def gradients(self, step: int, k: int) -> Tensor:
        turn = self._at(step, k)
        if self.codes.alone is not None:
            return self._compiled_gradients(self.codes.alone, step, turn)
        *grads, losses = self._fast(*turn.values, *turn.peers, *turn.batch(step))
        # A companion that has finished keeps its last gradient.
        copy_each(self._places(k), grads if k == len(losses) else [grad[:k] for grad in grads])
        return losses[:k] if self.noisy is None else self.noisy.finish(step, self.grad[:k], losses[:k])

    def losses_at(self, point: Tensor, step: int, k: int) -> Tensor:
        self.refuse_unprotected("losses of a batch")
        turn, width = self._at(step, k), self._width(k)
        rows = torch.empty_like(self.rows[:width]).copy_(point[self._beside(k, width)])
        given = [*self._layout.views(rows).values(), *turn.peers, *turn.batch(step)]
        if self._forward is None:  # what only gradients need is left out, unless that changes a bit
            whole, alone = self._fast, last_alone(self._fast)
            self._forward = alone if torch.equal(alone(*given)[0], whole(*given)[-1]) else whole
        return self._forward(*given)[-1][:k].clone()

    def descend_all(self, steps: range, k: int, lr: Rates, losses: Tensor) -> None:
        if not self._in_place:
            super().descend_all(steps, k, lr, losses)
            return
        rates = repeat(lr) if isinstance(lr, float | int) else lr
        with torch.inference_mode():  # nothing of this is seen outside, and torch notes less of every operation
            turn = self._at(steps.start, k)
            for step, rate in zip(steps, rates, strict=False):
                if step not in turn.steps:
                    turn = self._at(step, k)
                losses.add_(descend(self._fast, turn.values, turn.moved, (*turn.peers, *turn.batch(step)), rate))

    def take(self, b: Some, steps: range, losses: Tensor, lr: Rates, correct: Correction | None) -> bool:
        step, optimizer = self.codes.whole.get(correct), self._update.optimizer
        if step is None:
            return False
        k, width, trainable = b.k, self._width(b.k), self._layout.trainable
        turn = self._at(steps.start, k)
        taken = 0 if optimizer is None else optimizer.taken
        factors = step.factors(len(steps), lr, taken, k, width)
        state = [] if optimizer is None else [kept[:k] for kept in optimizer.state]
        rows, grad, found = self.rows[:k], self.grad[:k], losses
        beside = self._beside(k, width) if k < width else None
        if beside is not None:
            rows, found, grad = rows[beside], losses[beside], grad[beside]
            state = [kept[beside] for kept in state]
        take = step.on(rows, grad, found, b.broadcast, step.looks.vectors(b, beside), state)
        for factor, number in zip(factors, steps, strict=False):
            take(factor, turn.batch(number))
        if optimizer is not None:
            optimizer.count(k, len(steps))
        if beside is not None:
            self.rows[:k, :trainable], self.grad[:k], losses[:] = rows[:k, :trainable], grad[:k], found[:k]
            for kept, moved in zip(() if optimizer is None else optimizer.state, state, strict=True):
                kept[:k] = moved[:k]
        return True

    def _compiled_gradients(self, code: WholeStep, step: int, turn: Turn) -> Tensor:
        k, width = turn.k, self._width(turn.k)
        rows, grad = self.rows[:k], self.grad[:k]
        if k < width:
            beside = self._beside(k, width)
            rows, grad = rows[beside], grad[beside]
        losses = torch.zeros(width, dtype=torch.float64, device=self.device)
        code.on(rows, grad, losses, rows[0], (), ())(code.factors(1, 0.0)[0], turn.batch(step))
        if k < width:
            self.grad[:k] = grad[:k]
        return losses[:k]

    def _width(self, k: int) -> int:
        """Rows that are computed where k clients train."""
        return max(k, self._fewest) if self.shrinks else len(self.rows)

    def _beside(self, k: int, width: int) -> Tensor:
        """The k clients and their companions, who are the last one once more."""
        return torch.arange(width, device=self.device).clamp_(max=k - 1)

    def _at(self, step: int, k: int) -> Turn:
        """The steps from this one on in which the first k clients train: taken apart at once, not one by one."""
        turn = self._turn
        if turn is None or turn.k != k or step not in turn.steps:
            width, steps = self._width(k), range(step, max(self._ends[k - 1], step + 1))
            turn = self._turn = Turn(
                k,
                steps,
                self._views(k, width),
                self._known((k, False, True), self.rows[:k])[: len(self._layout.parameters)] if self._in_place else [],
                [one for rows in self._peer_rows for one in self._layout.views(rows[:width]).values()],
                self._batches.of(steps, width),
                () if self._context is None else (self._context[:width],),
            )
        return turn

    def alternate(self) -> None:
        super().alternate()
        self._other = not self._other

    def _views(self, k: int, width: int) -> list[Tensor]:
        """The first rows' values; compiled code has its own."""
        if self.codes.alone is not None:
            return []
        return self._known((k, False, False), self.rows[:width])

    def _places(self, k: int) -> list[Tensor]:
        """Where the gradients of the first k rows go."""
        return self._known((k, True, self._other), self.grad[:k])

    def _known(self, key: tuple[int, bool, bool], rows: Tensor) -> list[Tensor]:
        found = self._known_views.get(key)
        if found is None:
            found = self._known_views[key] = list(self._layout.views(rows).values())
        return found

    def _compile(self) -> None:
        example = [self.rows, *self._examples.placed(len(self.rows), self._batches)]
        try:
            self.codes = Codes.compiled(self._gradient, self._layout, self._update, example)
        except NotWhole as reason:
            raise CannotCapture(str(reason)) from reason

    def _fault(self) -> str | None:
        """Why a step depends on its position, on k, or on what a batch is filled up with; None if it does not.

        What is tried is the same for every K, so that K decides nothing.
        """
        most = len(self.rows)
        placed = self._examples.placed(most, self._batches)

        def outcome(k: int) -> Tensor:
            found = [code.outcome(k, [self.rows, *(one[:k] for one in placed)]) for code in self.codes.all]
            if self.codes.alone is None:
                values = self._layout.views(self.rows[:k]).values()
                *grads, _ = self._fast(*values, *self._examples.beside_values(k, placed))
                found += [flat_values(grad).double() for grad in grads]
            return torch.cat(found, 1)

        sizes = {2, min(3, most), most // 2 + 1, most} if self.shrinks else {most}
        return dependence(outcome, sizes, most, placed[0])
