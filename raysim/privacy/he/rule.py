"""The modular road with homomorphic encryption: the server adds ciphertexts, the key holder decrypts the sum."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from fnmatch import fnmatchcase

import numpy as np
import torch

from raysim import keyed
from raysim.aggregation.buffers import Buffers
from raysim.aggregation.protocol import Ask, Begun, Peers, Question, RoundProtocol, SumOpening
from raysim.aggregation.records import WEIGHT, Field, PartialSum, Record, combine
from raysim.aggregation.rules import Accumulator, Integers
from raysim.aggregation.running_sum import Named, RunningSum
from raysim.aggregation.stages import ModelColumns
from raysim.arrays import Array, Int32, Int64
from raysim.config.protection import BfvConfig, EncryptedConfig
from raysim.errors import ConfigError, RunError
from raysim.privacy.he.schemes import ONE_PRIME_BITS, Bfv, Ckks, Scheme, check_installed
from raysim.privacy.he.sums import EncryptedFold, EncryptedSum
from raysim.privacy.secagg.rule import ModularMean, ModularSum, unchanged
from raysim.privacy.secagg.words import message_bytes, word_bits

KEYS, DECRYPTION = "he/keys", "he/decryption"
"""Metrics: bytes of a round's public keys, and of the sum on its way to the key holder and back."""


class KeyHolder(RoundProtocol):
    """New keys for every round; nothing is asked of clients."""

    holds_keys = True

    def __init__(self, scheme: Scheme, sum_bytes: Callable[[int, Sequence[bytes]], int]) -> None:
        """`sum_bytes` of a cohort's size and the public keys: bytes of the sum's ciphertexts and of its values."""
        self._scheme, self._sum_bytes = scheme, sum_bytes

    def begin(self, seed: int, round_number: int, clients: Int64, ask: Ask) -> Begun:
        public, secret = self._scheme.key_pairs()
        return Begun(Peers(clients, public=public), secret, down=len(clients) * sum(map(len, public)))

    def end(self, seed: int, round_number: int, begun: Begun, contributed: Int32, ask: Ask) -> SumOpening:
        public, count = begun.peers.public, len(begun.peers.clients)
        returned = self._sum_bytes(count, public)
        metrics = {KEYS: float(begun.down), DECRYPTION: float(returned)}
        return SumOpening(begun.peers, secret=begun.mail, down=begun.down + returned, metrics=metrics)

    def answer(self, seed: int, question: Question) -> list[bytes]:
        raise AssertionError("this protocol asks no client")


class EncryptedMean(ModularMean):
    """The mean of what is encrypted under the key of a key holder.

    With BFV in 64 bits the integers are those of `WeightedMean`.
    """

    metrics = (KEYS, DECRYPTION)

    def __init__(self, config: EncryptedConfig, fields: Sequence[Field], columns: ModelColumns | None) -> None:
        super().__init__(config, fields, columns)
        check_installed()
        self._encryption = config
        self._scheme: Scheme = Bfv() if isinstance(config, BfvConfig) else Ckks()
        self.protocol = KeyHolder(self._scheme, self._sum_bytes)
        self._lengths: dict[int, int] = {}
        self._chosen = {field.name: self._encrypted(field) for field in self._sent}

    def check(self, *, clients: int, validation: bool) -> None:
        if clients < 2:
            raise ConfigError(
                "aggregation.protection: in a cohort of one the sum is the record of that one; raise cohort, or set "
                "protection to none"
            )

    def accumulator(
        self, round_number: int, device: torch.device, buffers: Buffers | None = None, named: Named | None = None
    ) -> Accumulator:
        if not len(self.peers.clients):
            return RunningSum(round_number, self.fields, device, buffers, named)
        return EncryptedFold(
            self._scheme,
            self.peers.public,
            lambda: ModularSum(round_number, self, device, None, named),
            self._split,
            self._key_counts(),
        )

    def masked(self, sums: PartialSum) -> PartialSum:
        self._integers(dict(sums.totals), self.peers.clients[sums.positions], self.fields, len(self.peers.clients))
        return sums

    def opened(self, records: Sequence[Record], opening: SumOpening | None, seed: int) -> list[Record]:
        assert opening is not None, "the server asks for it before it applies a sum"
        rule = self.among(opening.peers, seed, records[0].round, unchanged)
        encrypted = [one for one in records if isinstance(one, EncryptedSum)]
        if not encrypted:  # the key holder opened them elsewhere
            return list(records)
        total = combine(encrypted)
        # From here on the key holder's side, which sees the ciphertext of the sum alone.
        vectors = {
            name: self._scheme.decrypt(opening.secret, total.texts[name], size) for name, size in rule._sizes().items()
        }
        return [rule._together(total.clear, vectors)]

    def message_bytes(self, values: Sequence[int], round_number: int, clients: Int64) -> Int64:
        """Ciphertexts of what is encrypted, and words of the rest."""
        rest = [max(0, count - len(self._chosen[f.name])) for f, count in zip(self.fields, values, strict=True)]
        clear = message_bytes(self.fields, rest) - 8  # the weight is encrypted
        return np.full(len(clients), self._text_bytes(self.peers.public) + clear)

    def _encrypted(self, field: Field) -> Int64:
        """Columns of a field that are encrypted: of vectors over the model's those that were chosen, of others all."""
        every: Int64 = np.arange(field.size)
        config, columns = self._encryption, self._columns
        if columns is None or field.size not in (columns.size, columns.trainable):
            return every
        if config.layers is not None:
            return _columns_of(columns, config.layers, field.size)
        if config.share is None:
            return every
        if config.sensitivity is not None:
            return _most_sensitive(columns, config.sensitivity, config.share, field.size)
        key = keyed.bits(0, keyed.Purpose.ENCRYPTED_COLUMNS, every)
        return np.sort(np.argsort(key, kind="stable")[: max(1, round(config.share * field.size))])

    def _vector(self, field: Field) -> str:
        return "wide" if word_bits(field) > ONE_PRIME_BITS else "narrow"

    def _sizes(self) -> dict[str, int]:
        """Values of each encrypted vector."""
        found = {"wide": 1, "narrow": 0}
        for field in self.fields:
            found[self._vector(field)] += len(self._chosen[field.name])
        return {name: size for name, size in found.items() if size}

    def _key_counts(self) -> dict[str, int]:
        """Keys that each vector is encrypted under."""
        return {"wide": self._scheme.keys, "narrow": 1}

    def _split(self, sums: PartialSum) -> tuple[Mapping[str, Int64], PartialSum]:
        """What is encrypted of a client's integers, the weight first, and the rest."""
        parts: dict[str, list[Int64]] = {"wide": [np.array([sums.weight])], "narrow": []}
        for field in self.fields:
            parts[self._vector(field)].append(sums.totals[field.name][self._chosen[field.name]])
        secret = {name: np.concatenate(parts[name]) for name in self._sizes()}
        rest = {name: np.delete(total, self._chosen[name]) for name, total in sums.totals.items()}
        return secret, replace(sums, weight=0, totals=rest)

    def _together(self, clear: PartialSum, vectors: Mapping[str, Int64]) -> PartialSum:
        """The sums of what was encrypted and what was not."""
        weight, place = int(vectors["wide"][0]), {"wide": 1, "narrow": 0}
        if not 0 <= weight <= 2 * WEIGHT.scale:
            raise RunError(f"round {clear.round}: homomorphic encryption: the sum does not decrypt")
        totals: dict[str, Array] = {}
        for field in self.fields:
            chosen, name = self._chosen[field.name], self._vector(field)
            total = totals[field.name] = np.empty(field.size, np.int64)
            rest = np.ones(field.size, bool)
            rest[chosen] = False
            total[rest] = clear.totals[field.name]
            total[chosen] = vectors[name][place[name] : place[name] + len(chosen)]
            place[name] += len(chosen)
        return replace(clear, weight=weight, totals=totals)

    def _text_bytes(self, keys: Sequence[bytes]) -> int:
        """Bytes of a message's ciphertexts."""
        counts, slots = self._key_counts(), self._scheme.slots
        found = 0
        for name, size in self._sizes().items():
            whole, rest = divmod(size, slots)
            found += counts[name] * (whole * self._piece_bytes(keys, slots) + self._piece_bytes(keys, rest))
        return found

    def _piece_bytes(self, keys: Sequence[bytes], values: int) -> int:
        """Bytes of a ciphertext of this number of values; they do not depend on the values."""
        if values and values not in self._lengths:
            self._lengths[values] = len(self._scheme.encrypt(keys, np.zeros(values, np.int64), 1)[0][0].serialize())
        return self._lengths[values] if values else 0

    def _sum_bytes(self, cohort: int, keys: Sequence[bytes]) -> int:
        rule = self.among(Peers(np.arange(cohort), public=tuple(keys)), 0, 0, unchanged)
        return rule._text_bytes(keys) + 8 * sum(rule._sizes().values())

    def among(self, peers: Peers, seed: int, round_number: int, integers: Integers) -> EncryptedMean:
        bound = super().among(peers, seed, round_number, integers)
        assert isinstance(bound, EncryptedMean)
        return bound


def _most_sensitive(columns: ModelColumns, path: str, share: float, size: int) -> Int64:
    """Columns of the share of values with the largest scores in a file.

    Raises:
        ConfigError: the file has no score for each value.
    """
    places = np.concatenate([np.arange(one.start, one.start + one.size) for one in columns.segments])
    try:
        scores = np.load(path, allow_pickle=False)
    except (OSError, ValueError) as error:
        raise ConfigError(f"aggregation.protection.sensitivity: {path}: {error}") from None
    fits = isinstance(scores, np.ndarray) and scores.shape == places.shape and scores.dtype.kind in "fiu"
    if not fits or not np.isfinite(scores).all():
        raise ConfigError(
            f"aggregation.protection.sensitivity: {path}: expected a vector of {len(places)} finite numbers, one for "
            "each value of the model"
        )
    chosen: Int64 = np.sort(places[np.argsort(-scores.astype(np.float64), kind="stable")[: round(share * len(places))]])
    return chosen[chosen < size]


def _columns_of(columns: ModelColumns, patterns: Sequence[str], size: int) -> Int64:
    """Columns of the parameters and buffers whose names match.

    Raises:
        ConfigError: a pattern matches none.
    """
    found = []
    for pattern in patterns:
        matching = [one for one in columns.segments if fnmatchcase(one.name, pattern)]
        if not matching:
            names = ", ".join(one.name for one in columns.segments[:5])
            raise ConfigError(f"aggregation.protection.layers: {pattern!r} matches no parameter; there are {names}, …")
        found += [np.arange(one.start, one.start + one.size) for one in matching]
    joined: Int64 = np.unique(np.concatenate(found))
    return joined[joined < size]
