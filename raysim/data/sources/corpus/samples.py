"""Samples of one part of a corpus, to train on or to test on, made from the file of tokens when they are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np

from raysim.arrays import Array, Bools, Int64
from raysim.config.text import CorpusConfig
from raysim.data.dataset import Pool
from raysim.data.federation import DataInfo
from raysim.data.inputs import ANSWER, IDS, InputField, pack_inputs
from raysim.data.lazy import LazyArray
from raysim.data.left_out import LeftOut
from raysim.data.sources.arrays import compact
from raysim.data.sources.corpus.selecting import without_targets
from raysim.data.sources.corpus.sequences import Sequences, packed, pairs, single
from raysim.data.sources.corpus.token_files import TokenFiles
from raysim.errors import DataError

Maker = Callable[[Int64], Array]
"""Numbers of samples `[m]` to what they have, `[m, length]`."""


def of_a_language(
    config: CorpusConfig, files: TokenFiles, kept: Bools, client: Array | None, names: tuple[str, ...], origin: str
) -> tuple[Pool, DataInfo, list[LeftOut]]:
    """Ids and the ids that follow them; samples with nothing to learn are left out.

    Args:
        config: the section `data.source`.
        files: the corpus.
        kept: `[documents]` those of the part.
        client: `[documents]` name of each one's owner.
        names: of the labels by which partitions may deal.
        origin: of the part, for error messages.

    Raises:
        DataError: no sample has anything to learn.
    """
    length = config.length
    windows = packed(files, kept, length) if config.packed else single(files, kept, length, ahead=1)
    sequences = Sequences(files, windows, length, apart="segments" in config.beside)
    rows = np.arange(len(windows.start))
    learned = sequences.targets(rows) > 0
    if not learned.any():
        raise DataError(f"{origin}: no sample of {length:,} tokens has one to learn; raise data.source.length")
    rows = rows[learned]
    x, info = _inputs(config, files, sequences, sequences.ids, rows, origin)
    y = _lazy(sequences.next_ids, rows, config, _smallest(files), origin)
    full = int(sequences.targets(rows).sum()) == len(rows) * length
    weight = None if full else _lazy(sequences.weight, rows, config, np.dtype(np.float32), origin)
    owner = None if client is None else client[windows.document[rows]]
    info = replace(info, target_shape=(length,), classes=files.vocabulary)
    kinds = _classes(files, names)[files.label[windows.document[rows]]] if names else None
    return Pool(x, y, info.input_kind, origin, owner, weight, kinds=kinds), info, without_targets(learned)


def to_classify(
    config: CorpusConfig, files: TokenFiles, kept: Bools, client: Array | None, names: tuple[str, ...], origin: str
) -> tuple[Pool, DataInfo]:
    """Documents and their labels; `names` are those of the classes, the rest as for `of_a_language`.

    Raises:
        DataError: a document has another label.
    """
    windows = single(files, kept, config.length, ahead=0)
    sequences = Sequences(files, windows, config.length)
    rows = np.arange(len(windows.start))
    classes = _classes(files, names)
    labels = files.label[windows.document]
    unknown = np.flatnonzero(classes[labels] < 0)
    if len(unknown):
        raise DataError(
            f"{origin}: a test document has the label {files.labels[labels[unknown[0]]]!r}, which no document to train "
            "on has; correct it, or add such documents"
        )
    x, info = _inputs(config, files, sequences, sequences.labelled_ids, rows, origin)
    owner = None if client is None else client[windows.document]
    return Pool(x, classes[labels], info.input_kind, origin, owner), replace(info, classes=len(names))


ANSWERS = ("chosen", "rejected")
"""The classes of a pair: which of both answers is the better one. It is the first of every pair."""


def of_preferences(
    config: CorpusConfig, files: TokenFiles, kept: Bools, client: Array | None, origin: str
) -> tuple[Pool, DataInfo, list[LeftOut]]:
    """Pairs of a prompt with its better answer and with the other one; arguments as for `of_a_language`.

    Raises:
        DataError: no pair has a token of both answers.
    """
    both = pairs(files, kept, config.length)
    better, other = (Sequences(files, windows, config.length) for windows in both)
    rows = np.arange(len(both[0].start))
    learned = np.minimum(better.answers(rows), other.answers(rows)) > 0
    if not learned.any():
        raise DataError(f"{origin}: no pair has a token of both answers; raise data.source.length")
    rows = rows[learned]
    fields = (
        InputField(IDS, "tokens", (2, config.length), count=files.vocabulary),
        InputField(ANSWER, "flags", (2, config.length)),
    )

    def made(chosen: Int64) -> Array:
        ids, answer = (
            np.stack([getattr(one, what)(chosen) for one in (better, other)], axis=1) for what in ("ids", "learned")
        )
        return pack_inputs({IDS: ids, ANSWER: answer}, fields)[0]

    empty, placed = pack_inputs({IDS: np.empty((0, 2, config.length), np.int32),
                                 ANSWER: np.empty((0, 2, config.length), np.bool_)}, fields)  # fmt: skip
    x = LazyArray(made, rows, empty.shape[1:], empty.dtype, origin)
    info = DataInfo("classification", x.row_shape, "record", classes=2, vocabulary=files.vocabulary, inputs=placed)
    owner = None if client is None else client[both[0].document[rows]]
    return Pool(x, np.zeros(len(rows), np.int64), info.input_kind, origin, owner), info, without_targets(learned)


def class_names(files: TokenFiles, kept: Bools, origin: str) -> tuple[str, ...]:
    """Labels of these documents in sorted order, of numbers where all are whole numbers.

    Raises:
        DataError: there is one alone.
    """
    found = [files.labels[label] for label in np.unique(files.label[kept]).tolist()]
    if len(found) < 2:
        raise DataError(f"{origin}: every document is of class {found[0]!r}; at least two classes are needed")
    numbers = all(name.lstrip("-").isdecimal() for name in found)
    return tuple(sorted(found, key=int) if numbers else sorted(found))


def _classes(files: TokenFiles, names: tuple[str, ...]) -> Int64:
    """`[labels]` number of each label among the names of the classes; -1 where it is none of them."""
    place = {name: number for number, name in enumerate(names)}
    return np.array([place.get(name, -1) for name in files.labels], dtype=np.int64)


def _inputs(
    config: CorpusConfig, files: TokenFiles, sequences: Sequences, ids: Maker, rows: Int64, origin: str
) -> tuple[LazyArray, DataInfo]:
    """What a sample has for the model: its ids alone, or a record of them and of what is asked for beside."""
    shape = (config.length,)
    if not config.beside:
        x = _lazy(ids, rows, config, _smallest(files), origin)
        return x, DataInfo("classification", shape, "tokens", vocabulary=files.vocabulary)
    makers: dict[str, Maker] = {
        "input_ids": ids,
        "attention_mask": sequences.mask,
        "segments": sequences.segments,
        "position_ids": sequences.position_ids,
    }
    fields = (
        InputField("input_ids", "tokens", shape, count=files.vocabulary),
        *(InputField(name, "flags" if name == "attention_mask" else "integers", shape) for name in config.beside),
    )
    empty, placed = pack_inputs({one.name: makers[one.name](rows[:0]) for one in fields}, fields)

    def made(chosen: Int64) -> Array:
        return pack_inputs({one.name: makers[one.name](chosen) for one in fields}, fields)[0]

    x = LazyArray(made, rows, empty.shape[1:], empty.dtype, origin)
    return x, DataInfo("classification", x.row_shape, "record", vocabulary=files.vocabulary, inputs=placed)


def _lazy(make: Maker, rows: Int64, config: CorpusConfig, dtype: np.dtype[Any], origin: str) -> LazyArray:
    return LazyArray(lambda chosen: make(chosen).astype(dtype, copy=False), rows, (config.length,), dtype, origin)


def _smallest(files: TokenFiles) -> np.dtype[Any]:
    """The smallest integer type that holds every id."""
    return compact(np.array([files.vocabulary - 1])).dtype
