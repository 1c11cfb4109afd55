"""What is wrong with a user's algorithm: with its attributes, and with what its methods return on the server's side.

What clients send is checked where it is added up.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from raysim.aggregation import Field
from raysim.algorithms.base import Algorithm, ClientVector
from raysim.config.client import AdamConfig, SgdConfig
from raysim.config.fine_tuning import FineTuneConfig
from raysim.training import FeatureLoss, LocalWork
from raysim.user_code import Complaint, described


def _fields(algorithm: Algorithm, found: Any) -> str | None:
    if not isinstance(found, Sequence) or not found or not all(isinstance(one, Field) for one in found):
        return f"{described(found)}; expected a non-empty tuple of raysim.aggregation.Field"
    return _named(found)


def _client_state(algorithm: Algorithm, found: Any) -> str | None:
    if not isinstance(found, Sequence) or not all(isinstance(one, ClientVector) for one in found):
        return f"{described(found)}; expected a tuple of raysim.algorithms.ClientVector"
    for one in found:
        if not isinstance(one.initial, np.ndarray) and one.initial not in ("zero", "model"):
            return f"{one.name!r} with initial {one.initial!r}; expected 'zero', 'model' or an array of columns"
    return _named(found)


def wrong_attribute(algorithm: Algorithm) -> str | None:
    """What is wrong with the attributes of an algorithm; None where nothing is."""
    names = algorithm.broadcast_state
    if not isinstance(names, tuple | list) or not all(isinstance(one, str) for one in names):
        return f"broadcast_state is {names!r}; expected a tuple of names"
    recorded = algorithm.recorded
    if not isinstance(recorded, tuple | list) or not all(isinstance(one, str) for one in recorded):
        return f"recorded is {recorded!r}; expected a tuple of names"
    if not isinstance(algorithm.matrices, int) or algorithm.matrices < 0:
        return f"matrices is {algorithm.matrices!r}; expected a whole number of at least 0"
    if algorithm.correct is not None and not callable(algorithm.correct):
        return f"correct is {algorithm.correct!r}; expected a method of (grad, weights, b), or None"
    if algorithm.personal and type(algorithm).client_model is Algorithm.client_model:
        return "personal is set, but the method client_model is not there; write it"
    if algorithm.broadcast_state or recorded:
        state = algorithm.init(np.zeros(algorithm.layout.size, np.float32))
        missing = [name for name in algorithm.broadcast_state if name not in state]
        if missing:
            return f"broadcast_state names {missing[0]!r}, of which init makes no vector"
        several = [name for name in recorded if name not in state or len(state[name]) != 1]
        if several:
            return f"recorded names {several[0]!r}, of which init makes no vector of one value"
    return None


def _named(found: Sequence[Field | ClientVector]) -> str | None:
    for one in found:
        if not isinstance(one.size, int | np.integer) or one.size < 1:
            return f"{one.name!r} with size {one.size!r}; expected a whole number of at least 1"
    names = [one.name for one in found]
    twice = next((name for name in names if names.count(name) > 1), None)
    return None if twice is None else f"{twice!r} twice; give each its own name"


def _work(algorithm: Algorithm, found: Any, *given: Any, **named: Any) -> str | None:
    return None if isinstance(found, LocalWork) else f"{described(found)}; expected a raysim.training.LocalWork"


def _local_optimizer(algorithm: Algorithm, found: Any, *given: Any, **named: Any) -> str | None:
    if found is None or isinstance(found, SgdConfig | AdamConfig):
        return None
    return f"{described(found)}; expected the section of an optimiser, as client.optimizer, or None"


def _feature_loss(algorithm: Algorithm, found: Any) -> str | None:
    if found is None or isinstance(found, FeatureLoss):
        return None
    return f"{described(found)}; expected a raysim.training.FeatureLoss or None"


def _fine_tune(algorithm: Algorithm, found: Any) -> str | None:
    if found is None or isinstance(found, FineTuneConfig):
        return None
    return f"{described(found)}; expected a raysim.config.fine_tuning.FineTuneConfig or None"


def _first_model(algorithm: Algorithm, found: Any, *given: Any, **named: Any) -> str | None:
    return _vector(found, algorithm.layout.size, "the model")


def _init(algorithm: Algorithm, found: Any, *given: Any, **named: Any) -> str | None:
    return _state(found)


def _apply(algorithm: Algorithm, found: Any, model: Any, *given: Any, **named: Any) -> str | None:
    if not isinstance(found, tuple) or len(found) != 2:
        return f"{described(found)}; expected the pair (model, state)"
    return _vector(found[0], len(model), "the model") or _state(found[1])


def _state(found: Any) -> str | None:
    if not isinstance(found, Mapping):
        return f"{described(found)} as state; expected a mapping of names to vectors"
    for name, vector in found.items():
        if not isinstance(name, str) or not isinstance(vector, np.ndarray) or vector.ndim != 1:
            return f"{described(vector)} as state {name!r}; expected a NumPy vector"
        if vector.dtype.kind not in "fiub":
            return f"{vector.dtype} as state {name!r}; expected numbers"
    return None


def _vector(found: Any, size: int, what: str) -> str | None:
    if not isinstance(found, np.ndarray) or found.shape != (size,) or found.dtype.kind != "f":
        return f"{described(found)} as {what}; expected a NumPy vector of {size} float32"
    return None


RETURNS: Mapping[str, Complaint] = {
    "fields": _fields,
    "client_state": _client_state,
    "work": _work,
    "local_optimizer": _local_optimizer,
    "feature_loss": _feature_loss,
    "fine_tune": _fine_tune,
    "first_model": _first_model,
    "init": _init,
    "apply": _apply,
}
"""What is wrong with a value of each method; see `raysim.user_code.guarded`."""

ON_CLIENTS = frozenset({"local", "correct", "send"})
"""Methods that a worker calls for clients, whose errors name the client and the round."""
