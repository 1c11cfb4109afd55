"""Keyed randomness: every random choice is a pure function of (seed, purpose, round, client, counter).

Nothing in raysim reads a global generator. A choice is made by hashing its key with the SplitMix64 finaliser
(Steele, Lea & Flood 2014, "Fast splittable pseudorandom number generators"), vectorised over clients and samples.
Where a full generator is wanted (building data), `generator` returns NumPy's counter-based Philox under such a key.
"""

from __future__ import annotations

from enum import IntEnum, unique
from functools import lru_cache

import numpy as np
import numpy.typing as npt

from raysim.arrays import Float64, Int64, UInt64

_WORD = 0xFFFFFFFFFFFFFFFF
_CONSTANTS = 0x9E3779B97F4A7C15, 0xBF58476D1CE4E5B9, 0x94D049BB133111EB
_GOLDEN, _MIX_1, _MIX_2 = (np.uint64(one) for one in _CONSTANTS)


@unique
class Purpose(IntEnum):
    """What a random choice is for. Values are part of every result: never reuse or renumber one."""

    SPLIT = 1
    PARTITION = 2
    HOLDOUT = 3
    SYNTHETIC = 4
    MODEL = 5
    COHORT = 6
    BATCHES = 7
    MODULE = 8
    STRAGGLERS = 9
    LABEL_NOISE = 40
    GROUPS = 41
    STUDY = 42
    CONFIRMATION = 43
    LEARNED_WEIGHTS = 44
    RESAMPLING = 60
    IMBALANCE = 61
    AUGMENTATION = 62
    CANDIDATES = 70
    EXPLORATION = 71
    CLUSTERS = 72
    ROTATION = 73
    CLUSTER_MODELS = 80
    RANKS = 95
    ADAPTERS = 96
    DIRECTION = 130
    CHOSEN_DIRECTION = 131
    TEXT = 150
    BUCKETS = 151
    NEIGHBOURS = 160
    STOCHASTIC_ROUNDING = 161
    DROPOUT = 162
    ENCRYPTED_COLUMNS = 163
    NOISE = 170
    FRACTION_NOISE = 171
    LOCAL_NOISE = 172
    INTEGER_NOISE = 173
    EXAMPLES = 200
    EXAMPLE_NOISE = 201
    CANARIES = 202
    DEVICE_SPEED = 220
    DEVICE_NETWORK = 221
    DEVICE_KIND = 222
    TRIP_SECONDS = 223
    TRIP_LOST = 224
    AVAILABILITY = 225
    DISPATCH = 226
    EDGE = 227
    GOSSIP_GRAPH = 228
    CODEC = 240
    RANDOM_COLUMNS = 241
    HADAMARD = 242
    SKETCH = 243
    DOWNLINK = 244
    FLOWER = 260


def _mix(h: UInt64) -> UInt64:
    """SplitMix64's finaliser: a bijection of 64-bit words whose every output bit depends on every input bit."""
    h = (h ^ (h >> np.uint64(30))) * _MIX_1
    h = (h ^ (h >> np.uint64(27))) * _MIX_2
    return h ^ (h >> np.uint64(31))


def bits(seed: int, purpose: Purpose, *key: npt.ArrayLike) -> UInt64:
    """64 random bits for each key; the parts of the key (round, client, epoch, …) broadcast against each other.

    Args:
        seed: the experiment's seed.
        purpose: what the bits are for; different purposes are independent.
        *key: non-negative integers or arrays of them.

    Returns:
        uint64 array of the broadcast shape.
    """
    word, arrays = _begun(seed & _WORD, int(purpose)), key
    while arrays and isinstance(arrays[0], int):  # Python mixes a single number in a tenth of NumPy's time
        word, arrays = _mixed(word, arrays[0]), arrays[1:]
    h: UInt64 = np.asarray(word, dtype=np.uint64)[()]
    with np.errstate(over="ignore"):
        for part in arrays:
            h = _mix((h ^ np.asarray(part).astype(np.uint64)) + _GOLDEN)
    return h


@lru_cache(maxsize=1024)
def _begun(seed: int, purpose: int) -> int:
    """The word that every key of a purpose begins with."""
    return _mixed(_mixed(0, seed), purpose)


def _mixed(h: int, part: int) -> int:
    """The word of a key with one more number, from that of what is in front of it."""
    golden, first, second = _CONSTANTS
    h = ((h ^ (part & _WORD)) + golden) & _WORD
    h = ((h ^ (h >> 30)) * first) & _WORD
    h = ((h ^ (h >> 27)) * second) & _WORD
    return h ^ (h >> 31)


def uniform(seed: int, purpose: Purpose, *key: npt.ArrayLike) -> Float64:
    """Uniform numbers in [0, 1) with 53 random bits, one for each key (see `bits`)."""
    return (bits(seed, purpose, *key) >> np.uint64(11)).astype(np.float64) * 2.0**-53


def integers(seed: int, purpose: Purpose, *key: npt.ArrayLike) -> Int64:
    """Non-negative 63-bit integers (see `bits`), for seeding generators that insist on seeds of their own."""
    return (bits(seed, purpose, *key) >> np.uint64(1)).astype(np.int64)


def integer(seed: int, purpose: Purpose, *key: int) -> int:
    """One such integer."""
    return int(integers(seed, purpose, *key))


def generator(seed: int, purpose: Purpose, *key: int) -> np.random.Generator:
    """A NumPy generator (Philox) that belongs to this key alone. Costs ~15 µs: for data, not for every batch."""
    words = bits(seed, purpose, *key, np.arange(2))
    return np.random.Generator(np.random.Philox(key=words))
