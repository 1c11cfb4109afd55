"""The clients' rows: two versions deep, within a budget of memory, whole again after a checkpoint."""

from __future__ import annotations

import errno
import os
import resource
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from raysim.errors import RunError, StorageError
from raysim.execution.clients.state import CarriedStates, StateRows
from raysim.execution.clients.state_store import StateStore, load_pieces, save_piece

WIDTH = 32


def rows(*values: float) -> Any:
    return np.repeat(np.array(values, dtype=np.float32)[:, None], WIDTH, axis=1)


def ids(*clients: int) -> Any:
    return np.array(clients, dtype=np.int64)


def seen(store: StateStore, version: int, population: int = 10) -> dict[int, float]:
    found, known = store.read(np.arange(population), version)
    return {client: float(found[client, 0]) for client in np.flatnonzero(known).tolist()}


@pytest.fixture(params=[0, 1 << 30], ids=["in files", "in memory"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> StateStore:
    return StateStore(10, WIDTH, request.param, str(tmp_path))


@contextmanager
def files_up_to(nbytes: int) -> Iterator[None]:
    """A disk that takes no file larger than this."""
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (nbytes, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)


def test_a_piece_that_the_disk_refuses_is_an_oserror_like_that_of_any_file(tmp_path: Path) -> None:
    with files_up_to(100), pytest.raises(OSError, match="os error"):
        save_piece(str(tmp_path), 0, StateRows(ids(1), rows(1.0)))
    (tmp_path / "any").touch()
    save_piece(str(tmp_path), 0, StateRows(ids(1), rows(1.0)))
    assert (tmp_path / "clients-00000.safetensors").stat().st_mode == (tmp_path / "any").stat().st_mode


def test_rows_in_files_take_their_room_before_they_are_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(file: int, offset: int, nbytes: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "posix_fallocate", full)
    store = StateStore(10, WIDTH, 0, str(tmp_path))
    with pytest.raises(StorageError, match=r"execution.scratch: .*\(No space left on device\); name"):
        store.write(1, ids(4), rows(0.5))


def test_a_client_that_was_never_written_has_no_row(store: StateStore) -> None:
    assert seen(store, 5) == {}
    store.write(1, ids(4), rows(0.5))
    assert seen(store, 1) == {4: 0.5}


def test_a_round_can_be_read_as_it_found_things_and_as_it_left_them(store: StateStore) -> None:
    store.write(1, ids(1, 2), rows(1.0, 2.0))
    store.write(2, ids(2, 3), rows(2.5, 3.5))
    store.write(2, ids(5), rows(5.5))
    assert seen(store, 1) == {1: 1.0, 2: 2.0}
    assert seen(store, 2) == {1: 1.0, 2: 2.5, 3: 3.5, 5: 5.5}


def test_a_round_that_is_not_committed_leaves_nothing_behind(store: StateStore) -> None:
    store.write(1, ids(1, 2), rows(1.0, 2.0))
    store.write(2, ids(2, 3), rows(-1.0, -1.0))
    store.roll_back(1)
    assert seen(store, 1) == seen(store, 9) == {1: 1.0, 2: 2.0}
    store.write(2, ids(2), rows(2.5))
    assert seen(store, 1) == {1: 1.0, 2: 2.0}
    assert seen(store, 2) == {1: 1.0, 2: 2.5}
    store.roll_back(2)
    assert seen(store, 2) == {1: 1.0, 2: 2.5}


def test_work_done_twice_counts_once(store: StateStore) -> None:
    for _ in range(2):
        store.write(1, ids(1, 2), rows(1.0, 2.0))
    assert seen(store, 1) == {1: 1.0, 2: 2.0}


def test_rounds_do_not_go_back(store: StateStore) -> None:
    store.write(3, ids(1), rows(1.0))
    with pytest.raises(ValueError, match="rows of round 2 after those of round 3"):
        store.write(2, ids(1), rows(1.0))


def test_a_client_that_went_elsewhere_is_forgotten_with_the_round(store: StateStore) -> None:
    store.write(1, ids(1, 2), rows(1.0, 2.0))
    store.let_go(2, ids(2))
    assert (seen(store, 1), seen(store, 2)) == ({1: 1.0, 2: 2.0}, {1: 1.0})
    store.roll_back(1)
    assert seen(store, 1) == {1: 1.0, 2: 2.0}
    store.let_go(2, ids(2))
    store.write(3, ids(5), rows(5.0))
    assert (seen(store, 2), seen(store, 3)) == ({1: 1.0}, {1: 1.0, 5: 5.0})


def test_places_are_used_again(store: StateStore, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(store, "_a_chunk", 8)
    for number in range(1, 100):
        store.write(number, ids(number % 3, 3), rows(number, number))
    assert len(store._chunks) == 1  # four clients, two of them staged: six places
    assert seen(store, 99) == {0: 99.0, 1: 97.0, 2: 98.0, 3: 99.0}


def test_memory_stays_within_the_budget_and_files_have_no_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysim.execution.clients.state_store.CHUNK_BYTES", 4 * WIDTH * 2)
    store = StateStore(100, WIDTH, 3 * 4 * WIDTH * 2, str(tmp_path))
    store.write(1, np.arange(100), rows(*range(100)))
    kinds = [isinstance(chunk, np.memmap) for chunk in store._chunks]
    assert kinds == [False] * 3 + [True] * 47
    assert seen(store, 1, 100) == {client: float(client) for client in range(100)}
    assert not list(tmp_path.iterdir())


def test_a_folder_that_is_not_there_is_one_line(tmp_path: Path) -> None:
    store = StateStore(10, WIDTH, 0, str(tmp_path / "nowhere"))
    with pytest.raises(RunError, match=r"execution.scratch: cannot keep .*nowhere .* name a folder with room"):
        store.write(1, ids(1), rows(1.0))


def test_what_is_saved_comes_back_in_pieces(store: StateStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("raysim.execution.clients.state_store.PIECE_BYTES", 4 * WIDTH * 2)
    store.write(1, ids(1, 2, 7), rows(1.0, 2.0, 7.0))
    store.write(2, ids(2, 9), rows(2.5, 9.5))
    for version, expected in ((1, {1: 1.0, 2: 2.0, 7: 7.0}), (2, {1: 1.0, 2: 2.5, 7: 7.0, 9: 9.5})):
        folder = tmp_path / f"{version}"
        folder.mkdir()
        assert store.pieces(version) == 2
        for number in range(2):
            save_piece(str(folder), number, store.piece(version, number))
        again = StateStore(10, WIDTH, 1 << 20)
        for piece in load_pieces(str(folder), WIDTH):
            again.write(0, piece.clients, piece.rows)
        assert seen(again, 0) == expected
    with pytest.raises(RunError, match="a client keeps 32 values there, and 64 in this run"):
        list(load_pieces(str(tmp_path / "1"), 64))


def test_rows_that_came_with_a_lease_are_read_by_client_and_go_back_as_one() -> None:
    parts = [StateRows(ids(3, 1), rows(3.0, 1.0)), StateRows(ids(8), rows(8.0))]
    carried = CarriedStates(WIDTH, parts)
    found, known = carried.read(ids(8, 4, 3))
    assert known.tolist() == [True, False, True]
    assert found[[0, 2], 0].tolist() == [8.0, 3.0]
    assert carried.written().rows.shape == (0, WIDTH)
    carried.write(ids(8), rows(0.5))
    carried.write(ids(3, 4), rows(0.25, 0.75))
    assert carried.written().clients.tolist() == [8, 3, 4]
    assert carried.written().rows[:, 0].tolist() == [0.5, 0.25, 0.75]


@settings(max_examples=60)
@given(st.lists(st.tuples(st.sets(st.integers(0, 9), max_size=6), st.booleans()), max_size=25))
def test_the_store_is_a_dictionary_of_committed_rounds(rounds: list[tuple[set[int], bool]]) -> None:
    store = StateStore(10, WIDTH, 1 << 30)
    committed: dict[int, float] = {}
    version = 0
    for number, (clients, commits) in enumerate(rounds, start=1):
        chosen = sorted(clients)
        store.roll_back(version)
        store.write(number, ids(*chosen), rows(*[number + client / 16 for client in chosen]))
        assert seen(store, version) == committed
        if commits:
            committed = committed | {client: number + client / 16 for client in chosen}
            version = number
        assert seen(store, version) == committed
