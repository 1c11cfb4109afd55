"""One client's side of secure aggregation in one round. It keeps nothing: its secrets are a hash of a key."""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from raysim.aggregation.protocol import Peers
from raysim.arrays import Array, Int64
from raysim.privacy.secagg import shamir
from raysim.privacy.secagg.graph import Graph, graph
from raysim.privacy.secagg.keys import KEY_BYTES, SEED_BYTES, agreed, public_key, seal, secret, unseal

SEALED_BYTES = 2 * shamir.SHARE_BYTES + 16
"""Of a pair of shares, encrypted and authenticated."""


@dataclass(frozen=True, slots=True)
class Terms:
    """What all clients and the server know of the protocol.

    Attributes:
        threshold: share of a client's neighbours, and of the cohort, that must answer.
        neighbours: of each client; None: all others.
    """

    threshold: float
    neighbours: int | None = None

    def graph(self, seed: int, round_number: int, count: int) -> Graph:
        """Who masks with whom in a cohort of this size."""
        return graph(seed, round_number, count, self.neighbours)

    def needed(self, of: int) -> int:
        """How many of a cohort of this size must answer."""
        return max(1, math.ceil(self.threshold * of - 1e-9))  # .7 · 10 is 7.000…1


class Peer:
    """A client in a round.

    Args:
        count: clients of the cohort.
        position: in it.
        client: id.
    """

    def __init__(self, terms: Terms, seed: int, round_number: int, count: int, position: int, client: int) -> None:
        self.position, self._terms = position, terms
        self._graph = terms.graph(seed, round_number, count)
        self._key = (seed, round_number, position, client)

    def advertise(self) -> bytes:
        """Its public keys: the one that shares to it are encrypted under, and the one that masks are agreed by."""
        return public_key(self._secret("share key")) + public_key(self._secret("mask key"))

    def neighbours(self, present: Int64) -> list[int]:
        """Positions of its neighbours among these, ascending."""
        found: list[int] = np.intersect1d(self._graph.of(self.position), present).tolist()
        return found

    def share(self, keys: Array, present: Int64) -> bytes:
        """For each neighbour, one after the other, its shares of the self mask's seed and of the mask key, encrypted.

        Args:
            keys: public keys by position, `[m, 64]`.
            present: positions of those that sent some.
        """
        others, needed = self.neighbours(present), self._terms.needed(self._graph.degree)
        points = [other + 1 for other in others]
        both = [
            shamir.split(int.from_bytes(text, "big"), needed, points, self._secret(f"shares of {what}"))
            for what, text in (("self mask", self._self_mask()), ("mask key", self._secret("mask key")))
        ]
        texts = (b"".join(one.to_bytes(shamir.SHARE_BYTES, "big") for one in pair) for pair in zip(*both, strict=True))
        return b"".join(
            seal(self._mail_key(keys, other), self.position, text) for other, text in zip(others, texts, strict=True)
        )

    def masks(self, peers: Peers) -> Iterator[tuple[bytes, int]]:
        """The masks on its record: keys, and 1 where one is added, -1 where it is subtracted."""
        yield self._self_mask(), 1
        assert peers.keys is not None
        own = self._secret("mask key")
        for other in self.neighbours(peers.present()):
            yield pair_mask(own, peers.keys[other]), mask_sign(self.position, other)

    def reveal(self, keys: Array, present: Int64, survivors: Int64, mail: bytes) -> dict[int, bytes]:
        """Its share of one secret of each neighbour: of the self mask of those whose record arrived, of the mask key of
        the others, never of both.

        Args:
            present: positions of those that shared their secrets.
            survivors: positions of those whose record arrived.
            mail: what `share` of its neighbours sent to it, by their position.

        Raises:
            ValueError: the mail is not theirs.
        """
        found = {}
        arrived = set(survivors.tolist())
        for place, other in enumerate(self.neighbours(present)):
            sealed = mail[place * SEALED_BYTES : (place + 1) * SEALED_BYTES]
            text = unseal(self._mail_key(keys, other), other, sealed)
            half = slice(0, shamir.SHARE_BYTES) if other in arrived else slice(shamir.SHARE_BYTES, None)
            found[other] = text[half]
        return found

    def _mail_key(self, keys: Array, other: int) -> bytes:
        return _mail_key(self._secret("share key"), keys[other, :KEY_BYTES].tobytes())

    def _self_mask(self) -> bytes:
        return self._secret("self mask")[:SEED_BYTES]

    def _secret(self, label: str) -> bytes:
        return secret(label, *self._key)


def pair_mask(mask_key: bytes, keys: Array) -> bytes:
    """The key of the mask that two clients have in common, from the secret of one and the public keys of the other."""
    return agreed(mask_key, keys[KEY_BYTES:].tobytes(), b"raysim mask", SEED_BYTES)


def mask_sign(position: int, other: int) -> int:
    """Whether a client adds the mask that it shares with another, or subtracts it."""
    return 1 if position < other else -1


@lru_cache(maxsize=1 << 15)
def _mail_key(share_key: bytes, other: bytes) -> bytes:
    """The key of messages between two clients, which a client needs twice in a round."""
    return agreed(share_key, other, b"raysim share", 32)
