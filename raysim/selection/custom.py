"""A selection of the user's own, called with its errors told in one line and with what it returns checked."""

from __future__ import annotations

import inspect
from collections.abc import Collection, Iterable, Mapping
from typing import Any, TypeVar

import numpy as np

from raysim.arrays import Int64
from raysim.config import Experiment, load
from raysim.config.base import CustomConfig
from raysim.data import Federation
from raysim.errors import ConfigError, UserCodeError
from raysim.rounds.ranges import Evaluated, EvaluationRange, TrainRange
from raysim.selection.base import Measure, Selection, State
from raysim.training import LocalWork
from raysim.user_code import described, user_code

T = TypeVar("T")


def selection_class(config: CustomConfig) -> type[Selection]:
    """The class that an import string names.

    Raises:
        ConfigError: it names something that is no `Selection`.
    """
    found = load(config.name, key="selection.name")
    if not (isinstance(found, type) and issubclass(found, Selection)):
        raise ConfigError(f"selection.name: {config.name} is not a subclass of raysim.selection.Selection")
    if not isinstance(found.adaptive, bool):
        raise ConfigError(f"selection {config.name}: adaptive is {found.adaptive!r}; expected True or False")
    return found


class CustomSelection(Selection):
    """Calls a class named by import string, and checks what it returns.

    Its state is copied and read-only: a change in place would outlive an interrupted round.
    """

    def __init__(self, config: CustomConfig, experiment: Experiment, federation: Federation, work: LocalWork) -> None:
        """Build it with `args`.

        Raises:
            ConfigError: the import string names something that is no `Selection`, or its arguments do not fit.
            UserCodeError: its constructor fails.
        """
        super().__init__(experiment, federation, work)
        found = selection_class(config)
        self.adaptive, self._place = found.adaptive, f"selection {config.name}"
        with user_code(self._place):
            signature = inspect.signature(found)
        try:
            signature.bind(experiment, federation, work, **config.args)
        except TypeError as error:
            raise ConfigError(f"selection.args: {config.name}: {error}") from None
        with user_code(self._place):
            self._own = found(experiment, federation, work, **config.args)

    def first(self) -> State:
        place = f"{self._place}: first"
        with user_code(place):
            found = self._own.first()
            wrong = wrong_state(found)
        if wrong is None and found and not self.adaptive:
            wrong = f"a state; {_ADAPTIVE}"
        return _kept(_sound(place, found, wrong))

    def cohort(self, round_number: int, state: State, measure: Measure) -> Int64:
        place = f"round {round_number}: {self._place}: cohort"

        def measured(ranges: Iterable[EvaluationRange]) -> list[Evaluated]:
            if not self.adaptive:
                raise UserCodeError(f"measure was called; {_ADAPTIVE}")
            parts = ranges if isinstance(ranges, Collection) else list(ranges)
            if (wrong := self._wrong_ranges(parts)) is not None:
                raise UserCodeError(f"measure was given {wrong}")
            return measure(parts)

        with user_code(place):
            clients = self._own.cohort(self.work.drawn_in(round_number), state, measured)
            wrong = wrong_ids(clients, self.federation.population)
        if wrong is None and len(clients) > self.size:
            wrong = f"{len(clients)} clients; a cohort has at most {self.size}"
        return _sound(place, clients, wrong)

    def ranges(self, clients: Int64) -> tuple[TrainRange, ...]:
        place = f"{self._place}: ranges"
        with user_code(place):
            found = self._own.ranges(clients)
            wrong = self._wrong_ranges(found)
        if wrong is None and found and not self.adaptive:
            wrong = f"ranges; {_ADAPTIVE}"
        return tuple(_sound(place, found, wrong))

    def after(self, round_number: int, state: State, clients: Int64, evaluated: Iterable[Evaluated]) -> State:
        place = f"round {round_number}: {self._place}: after"
        with user_code(place):
            found = self._own.after(round_number, state, clients, evaluated)
            wrong = wrong_state(found)
        if wrong is None and _kinds(found) != _kinds(state):
            wrong = f"a state of {_kinds(found)}; expected that of first: {_kinds(state)}"
        return _kept(_sound(place, found, wrong))

    def _wrong_ranges(self, found: Any) -> str | None:
        """What is wrong with ranges: each client with training samples is in one of them at most."""
        if not isinstance(found, Collection) or not all(isinstance(one, TrainRange) for one in found):
            return f"{described(found)}; expected what self.train_ranges(clients) returns"
        population = self.federation.population
        wrong = next((wrong for one in found if (wrong := wrong_ids(one.clients, population)) is not None), None)
        if wrong is not None or not found:
            return wrong
        clients = np.sort(np.concatenate([one.clients for one in found]))
        empty = clients[self.federation.sizes("train", clients) == 0]
        if len(empty):
            return f"client {empty[0]}, which has no training samples; self.train_ranges leaves it out"
        return wrong_ids(clients, population)


_ADAPTIVE = "only an adaptive selection knows of the rounds before; set adaptive = True on the class"


def wrong_ids(clients: Any, population: int) -> str | None:
    """What is wrong with the ids of some clients; None where they are in range, ascending and each once."""
    if not isinstance(clients, np.ndarray) or clients.ndim != 1 or clients.dtype != np.int64:
        return f"{described(clients)}; expected client ids, a NumPy vector of int64"
    outside = clients[(clients < 0) | (clients >= population)]
    if len(outside):
        return f"client {outside[0]}; clients are 0 to {population - 1}"
    ordered = np.sort(clients)
    twice = ordered[1:][ordered[1:] == ordered[:-1]]
    if len(twice):
        return f"client {twice[0]} twice; name each client once"
    return None if np.array_equal(clients, ordered) else "ids that are not ascending; return np.sort of them"


def wrong_state(state: Any) -> str | None:
    """What is wrong with a state; None where a checkpoint can hold it."""
    if not isinstance(state, Mapping) or not all(isinstance(name, str) for name in state):
        return f"{described(state)}; expected a mapping of names to NumPy arrays"
    for name, value in state.items():
        if not isinstance(value, np.ndarray) or value.dtype.name not in _TYPES:
            return f"{described(value)} as {name!r}; expected a NumPy array of numbers"
    return None


_TYPES = ("bool", *(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64)), "float32", "float64")
"""Types of numbers that a checkpoint holds."""


def _sound(place: str, value: T, wrong: str | None) -> T:
    if wrong is not None:
        raise UserCodeError(f"{place} returned {wrong}")
    return value


def _kept(state: State) -> State:
    """Copies that cannot be written to."""
    kept = {name: np.array(value) for name, value in state.items()}
    for value in kept.values():
        value.setflags(write=False)
    return kept


def _kinds(state: State) -> str:
    found = ", ".join(f"{name} ({value.dtype}, {value.ndim}-dimensional)" for name, value in sorted(state.items()))
    return found or "nothing"
