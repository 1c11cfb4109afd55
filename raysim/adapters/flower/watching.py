"""Strategies of Flower, watched: what they aggregate is recorded, and classic ones get results in one order.

Flower's classic server collects results in the order of a set of futures, which changes from run to run; its strategies
then add numbers up in another order. Here they are sorted by node id before the strategy sees them.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Protocol

from raysim.adapters.flower.library import library
from raysim.adapters.flower.records import as_numpy
from raysim.errors import ConfigError


class Watcher(Protocol):
    """Who is told what a strategy does."""

    def expect(self, rounds: int, strategy: Any) -> None: ...
    def measured(self, round: int, where: str, metrics: Mapping[str, Any] | None) -> None: ...
    def arrays(self, arrays: Mapping[str, Any]) -> None: ...


@contextmanager
def watching(watcher: Watcher) -> Iterator[None]:
    """Watch every strategy that runs inside.

    Raises:
        ConfigError: this version of Flower starts its classic server in another way.
    """
    flwr = library()
    place = sys.modules[flwr.ServerApp.__module__]
    start_grid = getattr(place, "start_grid", None)
    if start_grid is None:
        raise ConfigError(
            f"flwr {flwr.version}: {place.__name__}.start_grid is not there, which runs classic strategies; install an "
            "earlier version of flwr"
        )
    start = flwr.Strategy.start
    flwr.Strategy.start = _watched_start(start, watcher)
    place.start_grid = _watched_grid(start_grid, watcher)  # type: ignore[attr-defined]  # a module of flwr
    try:
        yield
    finally:
        flwr.Strategy.start, place.start_grid = start, start_grid  # type: ignore[attr-defined]


def _watched_start(original: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    signature = inspect.signature(original)

    @functools.wraps(original)
    def start(self: Any, *args: Any, **kwargs: Any) -> Any:
        given = signature.bind(self, *args, **kwargs)
        given.apply_defaults()
        watcher.expect(given.arguments["num_rounds"], self)
        with _replaced(self, aggregate_train=_of_train(watcher), aggregate_evaluate=_of_evaluate(watcher)):
            if given.arguments.get("evaluate_fn") is not None:
                given.arguments["evaluate_fn"] = _of_server(given.arguments["evaluate_fn"], watcher)
            result = original(*given.args, **given.kwargs)
        if result.arrays:
            watcher.arrays(as_numpy(result.arrays))
        return result

    return start


def _of_train(watcher: Watcher) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def aggregate_train(server_round: int, replies: Any) -> Any:
            arrays, metrics = original(server_round, replies)
            if arrays is not None:
                watcher.arrays(as_numpy(arrays))
            watcher.measured(server_round, "train", metrics)
            return arrays, metrics

        return aggregate_train

    return wrap


def _of_evaluate(watcher: Watcher) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def aggregate_evaluate(server_round: int, replies: Any) -> Any:
            metrics = original(server_round, replies)
            watcher.measured(server_round, "evaluate", metrics)
            return metrics

        return aggregate_evaluate

    return wrap


def _of_server(original: Any, watcher: Watcher) -> Any:
    def evaluate_fn(server_round: int, arrays: Any) -> Any:
        metrics = original(server_round, arrays)
        watcher.measured(server_round, "test", metrics)
        return metrics

    return evaluate_fn


def _watched_grid(original: Callable[..., Any], watcher: Watcher) -> Callable[..., Any]:
    @functools.wraps(original)
    def start_grid(**given: Any) -> Any:
        server = given.get("server")
        if server is None and given.get("strategy") is None:
            given["strategy"] = library().ClassicFedAvg()
        strategy = given["strategy"] if server is None else server.strategy
        config = given.get("config")
        watcher.expect(config.num_rounds if config is not None else 1, strategy)
        with _replaced(
            strategy,
            aggregate_fit=_of_fit(watcher),
            aggregate_evaluate=_of_classic_evaluate(watcher),
            evaluate=_of_classic_server(watcher),
        ):
            return original(**given)

    return start_grid


def _of_fit(watcher: Watcher) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def aggregate_fit(server_round: int, results: Any, failures: Any) -> Any:
            parameters, metrics = original(server_round, sorted(results, key=_node), sorted(failures, key=_failure))
            if parameters is not None:
                from flwr.common import parameters_to_ndarrays

                watcher.arrays({str(i): array for i, array in enumerate(parameters_to_ndarrays(parameters))})
            watcher.measured(server_round, "train", metrics)
            return parameters, metrics

        return aggregate_fit

    return wrap


def _of_classic_evaluate(watcher: Watcher) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def aggregate_evaluate(server_round: int, results: Any, failures: Any) -> Any:
            loss, metrics = original(server_round, sorted(results, key=_node), sorted(failures, key=_failure))
            watcher.measured(server_round, "evaluate", {"loss": loss, **metrics})
            return loss, metrics

        return aggregate_evaluate

    return wrap


def _of_classic_server(watcher: Watcher) -> Callable[[Any], Any]:
    def wrap(original: Any) -> Any:
        def evaluate(server_round: int, parameters: Any) -> Any:
            found = original(server_round, parameters)
            if found is not None:
                watcher.measured(server_round, "test", {"loss": found[0], **found[1]})
            return found

        return evaluate

    return wrap


def _node(result: Any) -> int:
    """The node of a (client, result)."""
    client = result[0]
    return int(getattr(client, "node_id", None) or client.cid)


def _failure(failure: Any) -> tuple[int, str]:
    """Sorts failures: results by node, then errors by their text."""
    return (_node(failure), "") if isinstance(failure, tuple) else (2**63, str(failure))


@contextmanager
def _replaced(owner: Any, **wraps: Callable[[Any], Any]) -> Iterator[None]:
    """Methods of one object called through others."""
    own = {name: vars(owner)[name] for name in wraps if name in vars(owner)}
    for name, wrap in wraps.items():
        setattr(owner, name, wrap(getattr(owner, name)))
    try:
        yield
    finally:
        for name in wraps:
            delattr(owner, name)
        for name, value in own.items():
            setattr(owner, name, value)
