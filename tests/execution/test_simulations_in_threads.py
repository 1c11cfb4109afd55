"""Two simulations in two threads of one process have the bits that each has alone.

The one begins while the other is between the seed of a client's draws and the draws. It is let go on when the other has
come as far as it gets: to the lock, or, if there were none, to draws of its own.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from threading import Event, RLock, Thread, current_thread, main_thread
from typing import Any

import numpy as np
import pytest
import torch
from federations import sha256
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.config.model import CustomModelConfig
from raysim.data import DataInfo
from raysim.models import build_model, exclusive

INFO = DataInfo("classification", (6,), "real", classes=3)


class Meeting:
    """The main thread starts a second one, once, and waits until that has come as far as it gets."""

    def __init__(self, begin: Callable[[], Any]) -> None:
        self.found: list[Any] = []
        self._there, self._drawn, self._lock = Event(), Event(), RLock()
        self._other = Thread(target=lambda: self.found.append(begin()))

    def now(self) -> None:
        """Called between a seed and what is drawn from it, by either thread."""
        if current_thread() is not main_thread():
            self._there.set()
            self._drawn.wait()
        elif self._other.ident is None:
            self._other.start()
            self._there.wait()

    def drawn(self) -> None:
        """Called after the draws, by either thread."""
        if current_thread() is main_thread():
            self._drawn.set()

    def __enter__(self) -> None:
        """In place of the lock."""
        if current_thread() is not main_thread():
            self._there.set()
        self._lock.acquire()

    def __exit__(self, *error: object) -> None:
        self._lock.release()

    def over(self) -> Any:
        """What the second thread came to."""
        self._other.join()
        (found,) = self.found
        return found


MEETING: list[Meeting] = []


@contextmanager
def meeting(monkeypatch: pytest.MonkeyPatch, begin: Callable[[], Any]) -> Iterator[Meeting]:
    found = Meeting(begin)
    with monkeypatch.context() as patch:
        patch.setattr(exclusive, "_TURN", found)
        MEETING.append(found)
        try:
            yield found
        finally:
            MEETING.clear()


@contextmanager
def met() -> Iterator[None]:
    """The threads meet before the draws inside the block, if they are to meet at all."""
    for one in MEETING:
        one.now()
    yield
    for one in MEETING:
        one.drawn()


class Met(nn.Module):
    """Has the threads meet in training, before it goes on to draw; notes with how many torch threads it computes."""

    def __init__(self, *layers: nn.Module) -> None:
        super().__init__()
        self.layers = nn.Sequential(*layers)

    def forward(self, x: Tensor) -> Tensor:
        if not self.training or not x.any():  # evaluated, or tried on blank samples before the run
            return self.layers(x)
        THREADS.add((current_thread() is main_thread(), torch.get_num_threads()))
        with met():
            return self.layers(x)


THREADS: set[tuple[bool, int]] = set()


class Noise(nn.Module):
    """Adds noise in training."""

    def forward(self, x: Tensor) -> Tensor:
        return x + 0.1 * torch.randn_like(x) if self.training else x


MODULES: dict[str, Callable[[], nn.Module]] = {
    "dropout": lambda: Met(nn.Dropout(0.3), nn.Linear(6, 3)),
    "noise": lambda: Met(Noise(), nn.Linear(6, 3)),
    "linear": lambda: Met(nn.Linear(6, 3)),
}


def trained(directory: Path, name: str, threads: int = 1) -> str:
    """The model of two rounds."""
    random = np.random.default_rng(0)
    data = random.normal(size=(60, 6)).astype("float32"), random.integers(0, 3, 60)
    with torch.random.fork_rng(devices=[]):
        torch.default_generator.manual_seed(0)
        net = MODULES[name]()
    values = {
        "rounds": 2,
        "cohort": 3,
        "data": {"partition": {"name": "iid", "clients": 4}},
        "client": {"optimizer": {"lr": 0.2}},
        "training": {"engine": "sequential"},
        "execution": {"executor": "inprocess", "threads_per_client": threads},
        "tracking": {"report": False},
    }
    with Simulation(Experiment.parse(values), model=net, data=data, directory=directory) as simulation:
        simulation.run()
        return sha256(simulation.model())


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAYSIM_CACHE", str(tmp_path / "cache"))


@pytest.mark.parametrize("name", ["dropout", "noise"])
def test_what_modules_draw_is_their_own_simulations(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    torch.manual_seed(7)
    before, alone = torch.get_rng_state(), trained(tmp_path / "alone", name)
    with meeting(monkeypatch, lambda: trained(tmp_path / "other", name)) as both:
        assert trained(tmp_path / "one", name) == alone
        assert both.over() == alone
    assert torch.equal(torch.get_rng_state(), before)


def test_each_simulation_computes_with_its_own_number_of_threads(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    alone, outside = trained(tmp_path / "alone", "linear"), torch.get_num_threads()
    THREADS.clear()
    with meeting(monkeypatch, lambda: trained(tmp_path / "other", "linear", 1)) as both:
        trained(tmp_path / "one", "linear", 2)
        assert both.over() == alone
    assert {(True, 2), (False, 1)} == THREADS
    assert torch.get_num_threads() == outside


def interrupted() -> nn.Module:
    """Named by an import string; draws before and after the threads meet."""
    first = nn.Linear(6, 5)
    with met():
        second = nn.Linear(5, 3)
    return nn.Sequential(first, second)


def test_first_weights_are_those_of_the_seed(monkeypatch: pytest.MonkeyPatch) -> None:
    def built(seed: int) -> str:
        return sha256(build_model(CustomModelConfig(name=f"{__name__}:interrupted"), INFO, seed=seed))

    alone = {seed: built(seed) for seed in (1, 2)}
    assert alone[1] != alone[2]
    with meeting(monkeypatch, lambda: built(2)) as both:
        assert built(1) == alone[1]
        assert both.over() == alone[2]


def test_generators_are_put_aside_in_one_place_only() -> None:
    """Which is also where threads take turns."""
    root = Path(exclusive.__file__).parents[1]
    found = {file.relative_to(root).as_posix() for file in root.rglob("*.py") if "fork_rng(" in file.read_text("utf-8")}
    assert found == {"models/exclusive.py"}
