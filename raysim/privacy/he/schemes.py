"""Additively homomorphic encryption of integers by TenSEAL: BFV exactly, CKKS nearly.

BFV: Fan & Vercauteren 2012; CKKS: Cheon, Kim, Kim & Song 2017. Rings of degree 8,192 and 120 bits of coefficients, of
which the standard of homomorphic encryption allows 218 at 128 bits of security.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from raysim.aggregation.records import UPDATE
from raysim.arrays import Int64, UInt64
from raysim.errors import ConfigError

DEGREE = 8192
"""N, of the ring: values in a ciphertext of BFV; CKKS has half as many."""
COEFFICIENT_BITS = (60, 60)
PRIMES = (8590163969, 8590245889)
"""Plaintext moduli p ≡ 1 mod 2N, of 33 bits each: one holds sums below 2^32, both together below 2^65, in magnitude."""
ONE_PRIME_BITS = 32
"""Bits of a word that one prime holds."""

Text = tuple[tuple[bytes, ...], ...]
"""A vector's ciphertexts: for each key those of its pieces."""


def check_installed() -> None:
    """Raise a ConfigError where the library that encrypts is not installed."""
    try:
        import tenseal  # noqa: F401 - whether it can be imported
    except ImportError:
        raise ConfigError(
            'aggregation.protection: homomorphic encryption needs tenseal; pip install "raysim-fl[he]"'
        ) from None


@lru_cache(maxsize=8)
def opened_key(key: bytes) -> Any:
    """A TenSEAL context from its bytes."""
    import tenseal

    return tenseal.context_from(key)


class Scheme(ABC):
    """Encrypts vectors of integers, and adds what is encrypted.

    Attributes:
        slots: values in a ciphertext.
        keys: pairs of them, of which a vector needs one or all.
    """

    slots: int
    keys: int

    @abstractmethod
    def context(self, number: int) -> Any:
        """A new TenSEAL context with a pair of keys."""

    @abstractmethod
    def encoded(self, values: Int64, number: int) -> list[Any]:
        """Integers `[n]` as one key encrypts them."""

    @abstractmethod
    def encrypt_piece(self, context: Any, values: list[Any]) -> Any:
        """A ciphertext of at most `slots` values."""

    @abstractmethod
    def piece(self, context: Any, text: bytes) -> Any:
        """A ciphertext from its bytes."""

    @abstractmethod
    def decoded(self, values: Sequence[list[Any]]) -> Int64:
        """Integers `[n]`, from what each key decrypted."""

    def key_pairs(self) -> tuple[tuple[bytes, ...], tuple[bytes, ...]]:
        """Public and secret keys of a round, drawn by the system's generator."""
        made = [self.context(number) for number in range(self.keys)]
        return tuple(map(_public, made)), tuple(map(_secret, made))

    def encrypt(self, keys: Sequence[bytes], values: Int64, count: int) -> list[list[Any]]:
        """A vector under the first `count` public keys, in pieces."""
        contexts = [opened_key(key) for key in keys[:count]]
        pieces = [values[start : start + self.slots] for start in range(0, len(values), self.slots)]
        return [
            [self.encrypt_piece(context, self.encoded(piece, number)) for piece in pieces]
            for number, context in enumerate(contexts)
        ]

    def decrypt(self, keys: Sequence[bytes], text: Text, size: int) -> Int64:
        """The vector `[size]` of a ciphertext, by the secret keys."""
        if not size:
            return np.empty(0, np.int64)
        found = []
        for key, pieces in zip(keys, text, strict=False):
            context = opened_key(key)
            found.append([value for piece in pieces for value in self.piece(context, piece).decrypt()][:size])
        return self.decoded(found)


class Bfv(Scheme):
    """Exact: integers modulo one prime, or two and the Chinese remainder theorem."""

    slots, keys = DEGREE, len(PRIMES)

    def context(self, number: int) -> Any:
        import tenseal

        return tenseal.context(
            tenseal.SCHEME_TYPE.BFV,
            poly_modulus_degree=DEGREE,
            plain_modulus=PRIMES[number],
            coeff_mod_bit_sizes=list(COEFFICIENT_BITS),
        )

    def encoded(self, values: Int64, number: int) -> list[Any]:
        found: list[Any] = np.mod(values, PRIMES[number]).tolist()
        return found

    def encrypt_piece(self, context: Any, values: list[Any]) -> Any:
        import tenseal

        return tenseal.bfv_vector(context, values)

    def piece(self, context: Any, text: bytes) -> Any:
        import tenseal

        return tenseal.bfv_vector_from(context, text)

    def decoded(self, values: Sequence[list[Any]]) -> Int64:
        first = np.mod(np.array(values[0], np.int64), PRIMES[0])
        if len(values) == 1:
            return np.where(first > PRIMES[0] // 2, first - PRIMES[0], first)
        return remainders(first, np.mod(np.array(values[1], np.int64), PRIMES[1]))


class Ckks(Scheme):
    """Inexact: values in units of 2^-52 come back with an error of about 1e-8, another one each time."""

    slots, keys = DEGREE // 2, 1
    _SCALE = 2.0**40

    def context(self, number: int) -> Any:
        import tenseal

        made = tenseal.context(
            tenseal.SCHEME_TYPE.CKKS, poly_modulus_degree=DEGREE, coeff_mod_bit_sizes=list(COEFFICIENT_BITS)
        )
        made.global_scale = self._SCALE
        return made

    def encoded(self, values: Int64, number: int) -> list[Any]:
        found: list[Any] = (values.astype(np.float64) / UPDATE.scale).tolist()
        return found

    def encrypt_piece(self, context: Any, values: list[Any]) -> Any:
        import tenseal

        return tenseal.ckks_vector(context, values)

    def piece(self, context: Any, text: bytes) -> Any:
        import tenseal

        return tenseal.ckks_vector_from(context, text)

    def decoded(self, values: Sequence[list[Any]]) -> Int64:
        found: Int64 = np.rint(np.array(values[0]) * UPDATE.scale).astype(np.int64)
        return found


def remainders(first: Int64, second: Int64) -> Int64:
    """The integers in [-2^63, 2^63) with these remainders modulo the two primes."""
    p, q = (np.uint64(one) for one in PRIMES)
    ahead = np.mod(second - np.mod(first, PRIMES[1]), PRIMES[1]).astype(np.uint64)
    inverse, half = pow(PRIMES[0], -1, PRIMES[1]), 17
    high, low = np.uint64(inverse >> half), np.uint64(inverse & ((1 << half) - 1))
    with np.errstate(over="ignore"):  # products of 33 and 17 bits fit 64; the last line is meant modulo 2^64
        times: UInt64 = ((ahead * high % q << np.uint64(half)) + ahead * low) % q
        found = first.astype(np.uint64) + p * times
        found -= np.where(times > q // np.uint64(2), np.uint64(PRIMES[0] * PRIMES[1] % 2**64), np.uint64(0))
    return found.view(np.int64)


def _public(context: Any) -> bytes:
    made: bytes = context.serialize(
        save_public_key=True, save_secret_key=False, save_galois_keys=False, save_relin_keys=False
    )
    return made


def _secret(context: Any) -> bytes:
    made: bytes = context.serialize(
        save_public_key=False, save_secret_key=True, save_galois_keys=False, save_relin_keys=False
    )
    return made
