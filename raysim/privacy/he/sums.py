"""Encrypted records: clients' ciphertexts, added up on the worker, on nodes, and on the server."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from torch import Tensor

from raysim.aggregation.buffers import Buffers
from raysim.aggregation.records import PartialSum, combine, union
from raysim.aggregation.running_sum import RunningSum
from raysim.arrays import Float64, Int32, Int64
from raysim.privacy.he.schemes import Scheme, Text, opened_key


@dataclass(frozen=True, slots=True)
class EncryptedSum:
    """The sum over some clients of a round.

    Attributes:
        clear: what is not encrypted; its weight is 0.
        texts: ciphertexts of each vector.
        scheme: that they are of.
        keys: public ones, by which ciphertexts can be added.
    """

    clear: PartialSum
    texts: Mapping[str, Text]
    scheme: Scheme
    keys: tuple[bytes, ...]

    @property
    def round(self) -> int:
        """The round that it belongs to."""
        return self.clear.round

    @property
    def positions(self) -> Int32:
        """Of the clients, sorted."""
        return self.clear.positions

    @property
    def weight(self) -> int:
        """0: the sum of weights is encrypted."""
        return 0

    @property
    def nbytes(self) -> int:
        """Bytes that travel."""
        return self.clear.nbytes + sum(
            len(piece) for text in self.texts.values() for pieces in text for piece in pieces
        )

    def joined(self, parts: Sequence[EncryptedSum], buffers: Buffers) -> EncryptedSum:
        """The sum over the clients of all parts."""
        union(parts)
        clear = combine([part.clear for part in parts], buffers)
        full = [part for part in parts if part.texts]
        if not full:
            return replace(self, clear=clear)
        total = Ciphertexts(self.scheme, self.keys)
        for part in full:
            total.add_text(part.texts)
        return replace(self, clear=clear, texts=total.texts())


class Ciphertexts:
    """A running sum of ciphertexts, by vector, key and piece."""

    def __init__(self, scheme: Scheme, keys: Sequence[bytes]) -> None:
        self._scheme, self._keys = scheme, keys
        self._total: dict[str, list[list[Any]]] = {}

    def add(self, name: str, pieces: list[list[Any]]) -> None:
        """Add what was encrypted of a vector."""
        if name not in self._total:
            self._total[name] = pieces
            return
        for mine, other in zip(self._total[name], pieces, strict=True):
            for i, piece in enumerate(other):
                mine[i] = mine[i] + piece

    def add_text(self, texts: Mapping[str, Text]) -> None:
        """Add ciphertexts that travelled."""
        contexts = [opened_key(key) for key in self._keys]
        for name, text in texts.items():
            self.add(
                name,
                [
                    [self._scheme.piece(context, piece) for piece in pieces]
                    for context, pieces in zip(contexts, text, strict=False)
                ],
            )

    def texts(self) -> dict[str, Text]:
        """The sum so far, as it travels."""
        return {
            name: tuple(tuple(piece.serialize() for piece in pieces) for pieces in total)
            for name, total in self._total.items()
        }


class EncryptedFold:
    """A worker's sum so far: each client's integers are encrypted by themselves, and the ciphertexts added.

    Args:
        one: an empty sum of integers for one client.
        split: the integers of a client: what is encrypted, by vector, and what stays in the clear.
        counts: keys that each vector needs.
    """

    def __init__(
        self,
        scheme: Scheme,
        keys: tuple[bytes, ...],
        one: Callable[[], RunningSum],
        split: Callable[[PartialSum], tuple[Mapping[str, Int64], PartialSum]],
        counts: Mapping[str, int],
    ) -> None:
        self._scheme, self._keys, self._one, self._split, self._counts = scheme, keys, one, split, counts
        self._total = Ciphertexts(scheme, keys)
        self._clear: PartialSum | None = None

    def fold(self, positions: Int32 | Int64, weights: Float64, sent: Mapping[str, Tensor]) -> list[str | None]:
        """Add the records of a block; see `RunningSum.fold`."""
        reasons: list[str | None] = []
        for i in range(len(positions)):
            part, alone = slice(i, i + 1), self._one()
            reasons += alone.fold(positions[part], weights[part], {name: one[part] for name, one in sent.items()})
            if reasons[-1] is None:
                secret, clear = self._split(alone.seal())
                for name, values in secret.items():
                    self._total.add(name, self._scheme.encrypt(self._keys, values, self._counts[name]))
                self._clear = clear if self._clear is None else combine([self._clear, clear])
        return reasons

    def seal(self) -> EncryptedSum:
        """The sum so far."""
        clear = self._clear if self._clear is not None else self._split(self._one().seal())[1]
        return EncryptedSum(clear, self._total.texts(), self._scheme, self._keys)
