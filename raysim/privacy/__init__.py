"""Privacy: stages that clip and add noise, what they cost, secure aggregation, homomorphic encryption, attacks."""

from raysim.aggregation.mechanism import Adds, IntegerNoise, Mechanism, MechanismKind
from raysim.privacy.sampling import Adjacency, Recurrence, Sampling, SamplingKind, sampling_of

__all__ = [
    "Adds",
    "Adjacency",
    "IntegerNoise",
    "Mechanism",
    "MechanismKind",
    "Recurrence",
    "Sampling",
    "SamplingKind",
    "sampling_of",
]
