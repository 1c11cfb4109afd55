"""The parts of the speed benchmark that compute without running anybody: what was done, what the table says."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "benchmarks"))

from peers import big_update, growth
from peers.book import Book, OtherSetting
from peers.environments import backport
from peers.outcomes import WorkMismatch, check_work, table, work_of_a_round
from peers.processes import MARK, cpu_seconds, marked, new_mark
from peers.side import Task
from peers.workloads import WORKLOADS, power_law_shards


def run(seconds: float = 0.01, **changes: Any) -> dict[str, Any]:
    """A run as a side reports it: one round of warm-up, two timed."""
    return {
        "variant": "1",
        "rounds": 2,
        "seconds_per_round": seconds,
        "cpu_seconds_per_round": 2 * seconds,
        "startup_seconds": 3.0,
        "work": [[100, 10, 10], [60, 6, 6], [62, 7, 7]],
        "parameters": 7850,
        "accuracy": None,
        "versions": {"python": "3.11.7", "torch": "2.13.0+cpu"},
        **changes,
    }


def test_equal_work_passes_and_failed_runs_are_left_out_of_the_comparison() -> None:
    check_work({"raysim": [run(), run()], "pfl": [{"error": "not installable: no such version"}], "torch1": [run()]})
    check_work({"pfl": [{"error": "exit code 1"}]})


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        (
            {"work": [[100, 10, 10], [60, 6, 6], [61, 7, 7]]},
            "round 3: torch1 trained 61 samples in 7 batches and 7 steps, raysim 62",
        ),
        ({"work": 4 * [[100, 10, 10]]}, "torch1 ran 4 rounds, raysim 3"),
        ({"parameters": 7840}, "torch1 trained 7,840 parameters, raysim 7,850"),
        ({"versions": {"python": "3.11.7", "torch": "2.12.0"}}, "torch1 ran torch 2.12.0, raysim 2.13.0"),
    ],
)
def test_unequal_work_is_an_error_that_names_the_side_and_the_place(changes: dict[str, Any], words: str) -> None:
    with pytest.raises(WorkMismatch, match=words):
        check_work({"raysim": [run()], "torch1": [run(), run(**changes)]})


def test_only_raysim_may_be_timed_over_more_rounds() -> None:
    longer = [*run()["work"], [70, 7, 7]]
    check_work({"raysim": [run(work=longer)], "torch1": [run()]})
    with pytest.raises(WorkMismatch, match="pfl ran 4 rounds, torch1 3"):
        check_work({"torch1": [run()], "pfl": [run(work=longer)]})


def test_a_build_of_the_same_torch_counts_as_the_same() -> None:
    check_work({"raysim": [run()], "pfl": [run(versions={"python": "3.12.1", "torch": "2.13.0"})]})


def test_the_table_gives_medians_ratios_and_reasons() -> None:
    runs = {
        "raysim": [run(0.002, engine={"engine": "rows", "loss": "auto"}), run(0.001), run(0.009)],
        "flower": [run(0.2, versions={"torch": "2.13.0", "flwr": "1.41.0"}, accuracy=0.81)],
        "blazefl": [{"error": "not installable: no such version"}],
    }
    rows = {line.split(" | ")[0].removeprefix("| "): line for line in table(runs).splitlines()[2:]}
    assert rows["raysim"].startswith("| raysim | 1; engine rows | 2 | 2 | 308 | 4 | 3 | 1.00 | 1.00 |")
    assert "2, 1, 9" in rows["raysim"]
    assert "flwr 1.41.0" in rows["flower"]
    assert "| 2 | 200 | 30,769 | 400 | 3 | 100.00 | 100.00 | 81.00% |" in rows["flower"]
    assert "not installable: no such version" in rows["blazefl"]
    assert work_of_a_round(runs) == "61 samples, 6 batches, 6 steps a round, 7,850 parameters"


def test_sides_that_are_timed_over_other_rounds_are_compared_by_the_batch_and_at_the_same_round() -> None:
    longer = run(0.01, rounds=4, work=[[100, 10, 10], [60, 6, 6], [62, 7, 7], [9, 1, 1], [9, 1, 1]])
    runs = {
        "raysim": [{**longer, "accuracy": 0.9, "accuracy_by_round": [0.2, 0.5, 0.6, 0.8, 0.9]}],
        "raysim1": [{**longer, "accuracy": 0.9}],
        "torch1": [run(0.01, accuracy=0.5, accuracy_by_round=[0.2, 0.5, 0.5])],
    }
    cells = [[cell.strip() for cell in line.split("|")] for line in table(runs).splitlines()]
    column = {name: [row[place] for row in cells[2:]] for place, name in enumerate(cells[0])}
    assert column["rounds"] == ["4", "4", "2"]
    assert column["µs a batch"] == ["2,667", "2,667", "1,538"]  # 4 rounds of 15 batches, 2 rounds of 13
    assert column["time / raysim's"] == ["1.00", "1.00", "0.58"]
    assert column["test accuracy"] == ["43.33%", "90.00% after 5 rounds", "40.00%"]


def test_every_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    failed = [{"error": "exit code 1"}]
    alone = {"driver_mib_before": 400.0, "driver_mib": 410.0}
    big = {"bare_step_seconds": 0.1, "outside_seconds": 0.3, "memcpy_seconds": 0.2, "bytes_to_move": 10**9}
    for text in (
        table({"raysim": [run()], "pfl": failed, "flower": []}),
        growth.table({"10": [run(**alone)], "100": failed}),
        big_update.table({"25M on 2": [run(**big, phase_seconds={"train": 0.1, "wait": 0.0})], "25M on 8": failed}),
    ):
        assert len({line.count("|") for line in text.splitlines()}) == 1


def test_a_book_goes_on_where_it_was_and_drops_runs_of_another_variant(tmp_path: Path) -> None:
    path = tmp_path / "speed-A.json"
    book = Book(path, {"rounds": 2, "shape": (3, 4)})
    book.values["command"] = "python benchmarks/speed.py A"
    book.add("torch1", 0, run())
    book.add("pfl", 0, {"error": "exit code 1"})
    again = Book(path, {"rounds": 2, "shape": (3, 4)})
    assert again.values == book.values
    assert again.finished("torch1", "1", 0)
    assert not again.finished("torch1", "1", 1)
    assert not again.finished("pfl", "1x1", 0)
    assert not again.finished("torch1", "2", 0)
    assert again.runs("torch1") == []


def test_a_book_of_another_setting_is_not_continued_unless_fresh(tmp_path: Path) -> None:
    path = tmp_path / "speed-A.json"
    Book(path, {"rounds": 2}).save()
    with pytest.raises(OtherSetting, match="another setting; pass --fresh"):
        Book(path, {"rounds": 3})
    assert Book(path, {"rounds": 3}, fresh=True).values["runs"] == {}


def test_a_task_survives_its_file(tmp_path: Path) -> None:
    task = Task(WORKLOADS["D"], "folder", 5, 1, "2x1", 2)
    file = tmp_path / "task.json"
    file.write_text(task.to_json())
    assert Task.from_file(file) == task


def test_power_law_shards_deal_two_neighbouring_labels_and_no_sample_twice() -> None:
    random = np.random.default_rng(0)
    labels = random.integers(0, 10, 3000)
    shards = power_law_shards(labels, 50, random)
    dealt = np.concatenate(shards)
    assert len(np.unique(dealt)) == len(dealt) <= 3000
    assert len(dealt) > 2900  # only the rounding of each client's share is left over
    for client, shard in enumerate(shards):
        assert set(labels[shard]) == {client % 10, (client + 1) % 10}
        assert np.bincount(labels[shard])[[client % 10, (client + 1) % 10]].min() >= 5
    sizes = np.array([len(shard) for shard in shards])
    assert sizes.max() > 5 * np.median(sizes)


@pytest.mark.skipif(not Path("/proc/self/environ").exists(), reason="reads /proc")
def test_the_processor_time_of_marked_processes_is_found_even_after_they_end() -> None:
    mark = new_mark()
    with subprocess.Popen(
        [sys.executable, "-c", "sum(range(3_000_000)); input()"], env={**os.environ, MARK: mark}, stdin=subprocess.PIPE
    ) as process:
        while not (pids := marked(mark)) or cpu_seconds(pids) < 0.03:
            assert process.poll() is None
        assert pids == [process.pid]
        process.communicate(b"\n")
    assert marked(mark) == []
    assert cpu_seconds(pids) == 0.0  # waited for, so its time is in the process that waited


def test_the_back_port_leaves_functions_that_old_pythons_can_compile(tmp_path: Path) -> None:
    (tmp_path / "core").mkdir()
    file = tmp_path / "core" / "utils.py"
    file.write_text('"""Text."""\n\n\ndef first[T](\n    values: list[T],\n) -> T:\n    return values[0]\n')
    backport(tmp_path)
    names: dict[str, Any] = {}
    exec(compile(file.read_text(), "utils.py", "exec"), names)
    assert names["first"]([3, 4]) == 3
