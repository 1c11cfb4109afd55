"""Samples of a fixed length from tokenised documents: packed one after another, or a document each.

A sample of L tokens is a window of the file of tokens: `count` of its positions are tokens, the others padding. All
that a sample has (ids, next ids, weights, masks) follows from where its window begins, so that samples are made when
they are asked for, from the map of the file.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from raysim.arrays import Array, Bools, Int32, Int64
from raysim.data.sources.corpus.token_files import TokenFiles


@dataclass(frozen=True, slots=True)
class Windows:
    """Where samples are in the file of tokens."""

    start: Int64
    """`[n]` first token of each."""
    count: Int64
    """`[n]` its tokens; of a language model those that have a next one."""
    document: Int64
    """`[n]` the document that it begins in."""


def packed(files: TokenFiles, kept: Bools, length: int) -> Windows:
    """Windows of `length` tokens of each owner's documents (of each label) one after another, which do not overlap.

    T tokens of them give ceil((T - 1) / length) windows; the last one is padded.

    Args:
        files: the corpus.
        kept: `[documents]` those to take: of an owner all or none that there are to train on, or to test on.
        length: tokens of a window.
    """
    ends = np.cumsum(files.length)
    groups = (files.owner + files.test * (len(files.owners) + 1)) * (len(files.labels) + 1) + files.label
    cuts = np.flatnonzero(np.diff(groups, prepend=np.iinfo(np.int64).min))
    first = cuts[kept[cuts]]
    last = np.append(cuts[1:], len(files.owner))[kept[cuts]] - 1
    begin = ends[first] - files.length[first]
    targets = ends[last] - begin - 1
    rows = -(-targets // length)
    number = np.arange(int(rows.sum())) - np.repeat(np.cumsum(rows) - rows, rows)
    start = np.repeat(begin, rows) + number * length
    count = np.minimum(length, np.repeat(targets, rows) - number * length)
    return Windows(start, count, np.searchsorted(ends, start, side="right"))


def single(files: TokenFiles, kept: Bools, length: int, *, ahead: int) -> Windows:
    """A window for each document, of its first tokens.

    Args:
        files: the corpus.
        kept: `[documents]` those to take.
        length: tokens of a window.
        ahead: tokens behind the window that it needs: 1 for a language model, whose targets are the next tokens.
    """
    document = np.flatnonzero(kept)
    start = (np.cumsum(files.length) - files.length)[document]
    return Windows(start, np.minimum(length, files.length[document] - ahead), document)


def pairs(files: TokenFiles, kept: Bools, length: int) -> tuple[Windows, Windows]:
    """Two windows for each document, of the first tokens of its prompt with the better answer, and with the other."""
    document = np.flatnonzero(kept)
    first = (np.cumsum(files.turns) - files.turns)[document]
    start = (np.cumsum(files.length) - files.length)[document]
    better = files.lengths_of_turns[first] + files.lengths_of_turns[first + 1]
    other = files.length[document] - better
    windows = ((start, better), (start + better, other))
    chosen, rejected = (Windows(begin, np.minimum(length, count), document) for begin, count in windows)
    return chosen, rejected


class Sequences:
    """Makes what samples are of, by their numbers; all results are `[m, length]`."""

    def __init__(self, files: TokenFiles, windows: Windows, length: int, *, apart: bool = False) -> None:
        """Of these windows; `apart` keeps documents apart: the first token of each is no target."""
        self._files, self._windows, self._length = files, windows, length
        self._ends: Int64 = np.cumsum(files.length)
        self._starts: Int64 = self._ends - files.length
        turns = files.lengths_of_turns.copy()
        if apart:
            first = np.cumsum(files.turns) - files.turns
            moved = ((turns[first] == 0) & (turns[first + 1] > 0)).astype(np.int64)
            turns[first] += moved
            turns[first + 1] -= moved
        self._skips = bool(turns[::2].any())
        self._turns, self._turn_ends = turns, np.cumsum(turns)

    def ids(self, rows: Int64) -> Int32:
        """Token ids; padding behind them."""
        return self._tokens(rows, 0)

    def next_ids(self, rows: Int64) -> Int32:
        """The id that follows each token."""
        return self._tokens(rows, 1)

    def labelled_ids(self, rows: Int64) -> Int32:
        """Token ids of documents to classify: one that was truncated ends as all others do."""
        ids = self._tokens(rows, 0)
        suffix = self._files.suffix[-self._length :]
        cut = self._files.length[self._windows.document[rows]] > self._length
        if len(suffix) and cut.any():
            ids[cut, -len(suffix) :] = suffix
        return ids

    def mask(self, rows: Int64) -> Int32:
        """1 for a token, 0 for padding."""
        return self._real(rows).astype(np.int32)

    def weight(self, rows: Int64) -> Array:
        """float32: 1 for a target to learn, 0 for padding, for prompts, and between documents that are apart."""
        real = self._real(rows)
        if self._skips:
            real &= self._learned(self._positions(rows) + 1)
        return real.astype(np.float32)

    def learned(self, rows: Int64) -> Bools:
        """Whether each token is one to learn, such as those of an answer; a bool."""
        found: Bools = self._real(rows) & self._learned(self._positions(rows))
        return found

    def segments(self, rows: Int64) -> Int32:
        """Which document of the sample each token is of, from 1; 0 for padding."""
        document = np.searchsorted(self._ends, self._positions(rows), side="right")
        return np.where(self._real(rows), document - document[:, :1] + 1, 0).astype(np.int32)

    def position_ids(self, rows: Int64) -> Int32:
        """Place of each token in what the sample has of its document, from 0; 0 for padding."""
        positions = self._positions(rows)
        document = np.searchsorted(self._ends, positions, side="right").clip(max=len(self._starts) - 1)
        begin = np.maximum(self._starts[document], positions[:, :1])
        return np.where(self._real(rows), positions - begin, 0).astype(np.int32)

    def targets(self, rows: Int64) -> Int64:
        """How many targets there are to learn in each sample `[m]`, without making any."""
        return self._count(self._windows.start[rows] + 1, rows)

    def answers(self, rows: Int64) -> Int64:
        """How many tokens of each sample are learned `[m]`, without making any."""
        return self._count(self._windows.start[rows], rows)

    def _count(self, first: Int64, rows: Int64) -> Int64:
        return self._learned_before(first + self._windows.count[rows]) - self._learned_before(first)

    def _positions(self, rows: Int64) -> Int64:
        return self._windows.start[rows][:, None] + np.arange(self._length)

    def _real(self, rows: Int64) -> Bools:
        real: Bools = np.arange(self._length) < self._windows.count[rows][:, None]
        return real

    def _tokens(self, rows: Int64, ahead: int) -> Int32:
        positions = np.minimum(self._positions(rows) + ahead, len(self._files.tokens) - 1)
        return np.where(self._real(rows), self._files.tokens[positions], np.int32(self._files.pad))

    def _learned(self, positions: Int64) -> Bools:
        """Whether the tokens at these positions of the file are targets to learn."""
        learned: Bools = np.searchsorted(self._turn_ends, positions, side="right") % 2 == 1
        return learned

    def _learned_before(self, positions: Int64) -> Int64:
        """Targets to learn in front of a position of the file."""
        odd = np.arange(len(self._turns)) % 2
        before = np.cumsum(self._turns * odd) - self._turns * odd
        turn = np.searchsorted(self._turn_ends, positions, side="right").clip(max=len(odd) - 1)
        found: Int64 = before[turn] + odd[turn] * (positions - self._turn_ends[turn] + self._turns[turn])
        return found
