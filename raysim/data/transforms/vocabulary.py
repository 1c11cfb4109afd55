"""Characters to ids. Not in the configuration: it is fitted by itself where a source gives characters."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np

from raysim.arrays import Array
from raysim.data.dataset import Pool
from raysim.data.sources.arrays import compact

UNKNOWN = 0
"""Id of padding and of every character that training did not have."""


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """The training part's characters, sorted: the first has id 1."""

    characters: str

    def __len__(self) -> int:
        return len(self.characters) + 1

    def apply(self, pool: Pool) -> Pool:
        """The same windows as ids, in the smallest integer type that holds the vocabulary."""
        assert isinstance(pool.x, np.ndarray)
        return replace(pool, x=self.encode(pool.x), y=self.encode(pool.targets))

    def encode(self, characters: Array) -> Array:
        """Ids of characters (`<U1`, any shape)."""
        known = _codes(np.array(list(self.characters), "<U1"))
        codes = _codes(characters)
        nearest = np.minimum(np.searchsorted(known, codes), len(known) - 1)
        ids = np.where(known[nearest] == codes, nearest + 1, UNKNOWN)
        return ids.astype(compact(np.array([len(self)])).dtype)

    def decode(self, ids: Array) -> str:
        """The text of a sequence of ids; unknown characters and padding become U+FFFD."""
        return "".join(("\ufffd" + self.characters)[i] for i in ids.tolist())


def fit_vocabulary(train: Pool) -> Vocabulary:
    """All characters of the training windows, as inputs or as targets."""
    assert isinstance(train.x, np.ndarray)
    codes = np.union1d(_codes(train.x), _codes(train.targets))
    return Vocabulary("".join(map(chr, codes[codes > 0].tolist())))


def _codes(characters: Array) -> Array:
    """Code points as uint32; padding is 0. Integers sort and compare far faster than strings."""
    return np.ascontiguousarray(characters).view(np.uint32)
