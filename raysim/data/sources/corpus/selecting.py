"""Which documents of a corpus are taken, and what is said of the others."""

from __future__ import annotations

import numpy as np

from raysim.arrays import Bools, Int64
from raysim.config.text import CorpusConfig
from raysim.data.left_out import GRAVE, LeftOut, Unit, listed
from raysim.data.sources.corpus.token_files import NO_OWNER, TokenFiles
from raysim.errors import DataError


def selected(config: CorpusConfig, files: TokenFiles, origin: str) -> tuple[Bools, list[LeftOut]]:
    """`[documents]` which are taken, of those to train on and of those to test on, and what is told of the others.

    Documents without an owner, where others have one, and owners with little text to train on are left out. What such
    owners have in the test part stays, without an owner.

    Raises:
        DataError: no owner has enough text.
    """
    every = len(files.length) + files.empty
    left_out = []
    if files.empty:
        why = "they have no text" if config.answered is None and config.messages is None else "they have no response"
        left_out.append(_told("data.source", files.empty, every, "documents", why))
    written, test = _written(files), files.test > 0
    of_training = np.unique(files.owner[~test & (files.owner != NO_OWNER)])
    enough = written >= config.min_characters
    if not (enough.any() if files.unowned else enough[of_training].any()):
        raise DataError(
            f"{origin}: no owner has {max(config.min_characters, 1):,} characters of text (the most is "
            f"{int(written.max(initial=0)):,}); lower data.source.min_characters"
        )
    if files.unowned:
        return np.ones(len(files.length), dtype=np.bool_), left_out
    unowned = int(((files.owner == NO_OWNER) & ~test).sum())
    if unowned:
        left_out.append(_told("data.source.client", unowned, every, "documents", "no owner"))
    few = of_training[~enough[of_training]]
    if len(few):
        names = listed(files.owners[at] for at in few.tolist())
        why = f"fewer than {config.min_characters:,} characters: {names}"
        owners = len(of_training)
        left_out.append(LeftOut("data.source.min_characters", "source", len(few), owners, "owners", why))
    return test | np.append(enough, False)[files.owner], left_out


def without_targets(learned: Bools) -> list[LeftOut]:
    """Samples with nothing to learn, given which have something."""
    missing = int((~learned).sum())
    if not missing:
        return []
    why = "they hold nothing of a response; raise data.source.length"
    return [_told("data.source.length", missing, len(learned), "samples", why)]


def truncated(config: CorpusConfig, files: TokenFiles, kept: Bools) -> tuple[list[LeftOut], int]:
    """Tokens of documents that are longer than a sample, and what is told of them."""
    room = config.length + (config.task == "causal_lm")
    length = files.length[kept]
    if config.task == "preference":  # two sequences of two turns each
        length = files.lengths_of_turns.reshape(-1, 2).sum(1).reshape(-1, 2)[kept].ravel()
    beyond = np.maximum(length - room, 0)
    lost, every = int(beyond.sum()), int(files.length[kept].sum())
    if not lost:
        return [], 0
    what = "answers with their prompts" if config.task == "preference" else "documents"
    why = f"{int((beyond > 0).sum()):,} of {len(beyond):,} {what} are longer than {room:,} tokens"
    return [_told("data.source.length", lost, every, "tokens", why)], lost


def _told(step: str, count: int, of: int, unit: Unit, why: str) -> LeftOut:
    return LeftOut(step, "source", count, of, unit, why, count > GRAVE * of)


def _written(files: TokenFiles) -> Int64:
    """Characters of each owner to train on; without owners those of all documents."""
    if files.unowned:
        return np.array([int(files.characters[files.test == 0].sum())])
    owned = (files.owner != NO_OWNER) & (files.test == 0)
    written: Int64 = np.bincount(files.owner[owned], files.characters[owned], len(files.owners)).astype(np.int64)
    return written
