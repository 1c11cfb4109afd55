"""Keys of a client in a round: X25519 agreement, HKDF-SHA256, AES-128 in counter mode, AES-GCM.

A client's secrets are a hash of (seed, round, position, client), so that a lease that is given out again masks with
the same integers. They are as secret as the seed: with it every mask can be taken off, as in any simulation.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterable
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from raysim.arrays import Array
from raysim.errors import ConfigError

if TYPE_CHECKING:
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

KEY_BYTES = 32
"""Of an X25519 public key."""
SEED_BYTES = 16
"""Of the key of a mask: AES-128."""
CHUNK_BYTES = 1 << 17
"""Of a mask that are made at a time: they stay in the cache."""

_BLOCK_SLACK = 15
"""What `update_into` wants of room beyond its output."""


def check_installed() -> None:
    """Raise a ConfigError where the library that does the arithmetic is not installed."""
    try:
        import cryptography  # noqa: F401 - whether it can be imported
    except ImportError:
        raise ConfigError(
            'aggregation.protection: secure aggregation needs cryptography; pip install "raysim-fl[secagg]"'
        ) from None


def secret(label: str, seed: int, *key: int) -> bytes:
    """32 secret bytes of a client: a hash of what they are for, the seed, and integers of at most 64 bits."""
    words = struct.pack(f"<Q{len(key)}q", seed & 0xFFFFFFFFFFFFFFFF, *key)
    return hashlib.sha256(b"raysim secagg " + label.encode() + b"\0" + words).digest()


@lru_cache(maxsize=4096)
def private_key(secret_bytes: bytes) -> X25519PrivateKey:
    """The X25519 key of 32 secret bytes."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PrivateKey

    return X25519PrivateKey.from_private_bytes(secret_bytes)


@lru_cache(maxsize=4096)
def public_key(secret_bytes: bytes) -> bytes:
    """The public key of 32 secret bytes, 32 bytes."""
    return private_key(secret_bytes).public_key().public_bytes_raw()


def agreed(secret_bytes: bytes, other: bytes, purpose: bytes, length: int) -> bytes:
    """The key that two clients agree on: HKDF-SHA256 of the X25519 secret of one and the public key of the other."""
    from cryptography.hazmat.primitives.asymmetric.x25519 import X25519PublicKey
    from cryptography.hazmat.primitives.hashes import SHA256
    from cryptography.hazmat.primitives.kdf.hkdf import HKDF

    shared = private_key(secret_bytes).exchange(X25519PublicKey.from_public_bytes(other))
    return HKDF(SHA256(), length, salt=None, info=purpose).derive(shared)


def seal(key: bytes, sender: int, text: bytes) -> bytes:
    """Encrypt and authenticate a message, 16 bytes longer than it; a key serves one message of each sender."""
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    return AESGCM(key).encrypt(struct.pack("<IQ", 0, sender), text, None)


def unseal(key: bytes, sender: int, sealed: bytes) -> bytes:
    """The text of a sealed message.

    Raises:
        ValueError: somebody changed it, or it is of somebody else.
    """
    from cryptography.exceptions import InvalidTag
    from cryptography.hazmat.primitives.ciphers.aead import AESGCM

    try:
        return AESGCM(key).decrypt(struct.pack("<IQ", 0, sender), sealed, None)
    except InvalidTag:
        raise ValueError(f"the share of the client at position {sender} was changed on its way") from None


def add_masks(words: Array, stream: int, keys: Iterable[tuple[bytes, int]]) -> None:
    """Add masks to unsigned words in place, modulo their size.

    Args:
        words: uint32 or uint64 `[n]`, contiguous.
        stream: number of the vector; vectors of other numbers get masks that are independent of these.
        keys: of each mask 16 bytes, and 1 to add it or -1 to subtract it.
    """
    from cryptography.hazmat.primitives.ciphers import Cipher
    from cryptography.hazmat.primitives.ciphers.algorithms import AES
    from cryptography.hazmat.primitives.ciphers.modes import CTR

    nonce = struct.pack(">QQ", stream, 0)  # the second half counts blocks
    masks = [(Cipher(AES(key), CTR(nonce)).encryptor(), sign) for key, sign in keys]
    step = CHUNK_BYTES // words.itemsize
    zeros, room = memoryview(bytes(CHUNK_BYTES)), bytearray(CHUNK_BYTES + _BLOCK_SLACK)
    for start in range(0, len(words), step):
        part = words[start : start + step]
        mask = np.frombuffer(room, part.dtype, len(part))
        for encryptor, sign in masks:
            encryptor.update_into(zeros[: part.nbytes], room)
            (np.add if sign > 0 else np.subtract)(part, mask, out=part)
