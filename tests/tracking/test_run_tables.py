from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from synthetic_runs import METRICS, make_clients, make_row

from raysim.config import Experiment
from raysim.errors import RunError
from raysim.rounds.rows import CLIENT_SCHEMA, FORMERLY, PHASES, round_schema, round_values
from raysim.tracking import RunDirectory, RunTables, read_clients, read_rounds
from raysim.tracking.reading import SMALL_BATCHES, gathered
from raysim.tracking.report.recorded import read_run
from raysim.tracking.round_messages import RoundMessages
from raysim.tracking.tables import TableWriter


def rounds_of(run: RunDirectory) -> list[int]:
    return read_rounds(run)["round"].to_pylist()


def client_rounds_of(run: RunDirectory) -> list[int]:
    return [round for batch in read_clients(run) for round in batch["round"].to_pylist()]


def fill(tables: RunTables, first: int, last: int) -> None:
    for round in range(first, last + 1):
        tables.append(make_row(round), make_clients(round))


def test_a_row_comes_back_as_it_was(run: RunDirectory, tables: RunTables) -> None:
    tables.append(make_row(1, lr=0.05, dropped=1), make_clients(1, "not finite"))
    tables.append(make_row(2, metrics={"test/accuracy": 0.75}), make_clients(2))
    tables.close()
    first, second = read_rounds(run).to_pylist()
    assert first["round"] == 1
    assert first["lr"] == 0.05
    assert first["dropped"] == 1
    assert first["seconds/train"] == 0.5
    assert first["seconds/wait"] == 0.0
    assert first["test/accuracy"] is None
    assert second["test/accuracy"] == 0.75
    assert second["train/loss"] is None
    (batch,) = read_clients(run)
    assert batch.schema.equals(CLIENT_SCHEMA)
    assert batch["dropped"].to_pylist() == ["not finite"] + [None] * 7
    assert pq.read_table(run.rounds).schema.names[-3:] == METRICS


def test_folding_a_table_of_many_rounds_holds_few_of_its_batches_at_a_time() -> None:
    alive: list[weakref.ref[pa.RecordBatch]] = []
    most = 0

    def one_by_one() -> Iterator[pa.RecordBatch]:
        nonlocal most
        for i in range(1000):
            batch = pa.RecordBatch.from_pydict({"round": [i]})
            alive.append(weakref.ref(batch))
            yield batch
            del batch
            most = max(most, sum(one() is not None for one in alive))

    tables = list(gathered(one_by_one(), rows=600))
    assert most <= SMALL_BATCHES + 1
    assert [len(table) for table in tables] == [600, 400]
    assert pa.concat_tables(tables)["round"].to_pylist() == list(range(1000))


def test_rows_can_be_read_while_the_run_goes_on(run: RunDirectory, tables: RunTables) -> None:
    assert rounds_of(run) == []
    fill(tables, 1, 3)
    assert rounds_of(run) == [1, 2, 3]
    tables.save()
    fill(tables, 4, 5)
    assert rounds_of(run) == [1, 2, 3, 4, 5]
    assert client_rounds_of(run) == [r for r in range(1, 6) for _ in range(4)]
    assert pq.read_table(run.rounds)["round"].to_pylist() == [1, 2, 3]
    tables.close()
    assert rounds_of(run) == [1, 2, 3, 4, 5]


def test_closing_leaves_only_parquet(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 2)
    tables.close()
    tables.close()
    assert sorted(file.name for file in run.path.iterdir()) == ["clients.parquet", "config.yaml", "rounds.parquet"]


def test_a_metric_that_was_not_declared_is_refused(tables: RunTables) -> None:
    with pytest.raises(ValueError, match="test/f1"):
        tables.append(make_row(1, metrics={"test/f1": 1.0}))
    with pytest.raises(ValueError, match="seconds/coffee"):
        tables.append(make_row(1, seconds={"coffee": 1.0}))


def test_phases_left_out_took_no_time() -> None:
    values = round_values(make_row(1, seconds={}, metrics={}))
    assert all(values[f"seconds/{phase}"] == 0.0 for phase in (*PHASES, "total"))


def test_a_stream_is_what_arrow_writes_of_the_same_rows(tmp_path: Path) -> None:
    schema = round_schema(METRICS)
    writer = TableWriter(tmp_path / "rounds.parquet", schema)
    messages, sink = RoundMessages(schema), pa.BufferOutputStream()
    with pa.ipc.new_stream(sink, schema) as arrow:
        for round in range(1, 6):
            values = round_values(make_row(round, lr=0.1 / round, samples=2**40 + round))
            writer.write(messages.of(values))
            arrow.write_batch(pa.RecordBatch.from_pylist([values], schema))
    written = (tmp_path / "rounds.arrows").read_bytes()
    writer.close()
    assert sink.getvalue().to_pybytes().startswith(written)


def test_a_batch_of_other_columns_than_the_table_is_refused(tmp_path: Path) -> None:
    writer = TableWriter(tmp_path / "clients.parquet", CLIENT_SCHEMA)
    with pytest.raises(ValueError, match=r"clients\.parquet: a batch of the columns \['round', 'client'\]"):
        writer.append(make_clients(1).select(["round", "client"]))
    writer.close()


def test_nan_and_not_measured_are_different(run: RunDirectory, tables: RunTables) -> None:
    tables.append(make_row(1, metrics={"train/loss": float("nan")}))
    tables.close()
    loss, accuracy = (read_rounds(run)[name][0].as_py() for name in ("train/loss", "test/accuracy"))
    assert np.isnan(loss)
    assert accuracy is None


def test_a_run_without_clients_table_has_none(run: RunDirectory) -> None:
    with RunTables(run, METRICS, clients=False) as tables:
        tables.append(make_row(1), make_clients(1))
    assert not run.clients.exists()
    assert list(read_clients(run)) == []


def test_an_empty_cohort_is_a_round_without_clients(run: RunDirectory, tables: RunTables) -> None:
    nobody = make_clients(1).slice(0, 0)
    tables.append(make_row(1, cohort=0, trained=0), nobody)
    tables.append(make_row(2), make_clients(2))
    tables.close()
    assert rounds_of(run) == [1, 2]
    assert client_rounds_of(run) == [2] * 4


def test_a_stream_torn_anywhere_keeps_every_row_before(tmp_path: Path) -> None:
    schema = round_schema(["test/accuracy"])
    writer = TableWriter(tmp_path / "rounds.parquet", schema)
    stream = tmp_path / "rounds.arrows"
    ends = [stream.stat().st_size]
    for round in (1, 2, 3):
        writer.write(RoundMessages(schema).of(round_values(make_row(round, metrics={}))))
        ends.append(stream.stat().st_size)
    whole = stream.read_bytes()
    writer.close()
    for cut in range(ends[0], len(whole), 37):
        torn = tmp_path / f"torn-{cut}"
        torn.mkdir()
        (torn / "config.yaml").write_text("")
        (torn / "rounds.arrows").write_bytes(whole[:cut])
        complete = sum(end <= cut for end in ends[1:])
        assert rounds_of(RunDirectory.open(torn)) == list(range(1, complete + 1))


KILLED = """
import os, signal, sys
sys.path.insert(0, sys.argv[2])
from synthetic_runs import METRICS, make_clients, make_row
from raysim.tracking import RunDirectory, RunTables
tables = RunTables(RunDirectory.open(sys.argv[1]), METRICS)
for round in range(1, 8):
    tables.append(make_row(round), make_clients(round))
    if round == 5:
        tables.save()
os.kill(os.getpid(), signal.SIGKILL)
"""


def test_a_kill_loses_no_round_and_a_resume_has_each_once(run: RunDirectory) -> None:
    arguments = [sys.executable, "-c", KILLED, str(run.path), str(Path(__file__).parent)]
    assert subprocess.run(arguments, check=False).returncode == -signal.SIGKILL
    assert rounds_of(run) == [1, 2, 3, 4, 5, 6, 7]
    with RunTables(run, METRICS, after_round=5) as tables:
        assert rounds_of(run) == [1, 2, 3, 4, 5]
        fill(tables, 6, 9)
    assert pq.read_table(run.rounds)["round"].to_pylist() == list(range(1, 10))
    assert client_rounds_of(run) == [r for r in range(1, 10) for _ in range(4)]
    assert not run.rounds.with_suffix(".arrows").exists()


sittings = st.lists(
    st.tuples(st.integers(0, 6), st.booleans(), st.booleans(), st.integers(0, 3000), st.integers(0, 8)), max_size=4
)


@settings(max_examples=25, deadline=None)
@given(sittings)
def test_whatever_happens_a_table_has_each_round_once(history: list[tuple[int, bool, bool, int, int]]) -> None:
    schema = round_schema(["train/loss"])
    with tempfile.TemporaryDirectory() as folder:
        run = RunDirectory.create_at(Path(folder) / "run", Experiment())
        after = 0
        for appended, saved, killed, torn, back in history:
            writer = TableWriter(run.rounds, schema, after)
            assert rounds_of(run) == list(range(1, after + 1))
            for round in range(after + 1, after + appended + 1):
                writer.write(RoundMessages(schema).of(round_values(make_row(round, metrics={"train/loss": 1.0}))))
            durable = after + appended if saved else after
            if saved:
                writer.save()
            if killed:
                stream = run.rounds.with_suffix(".arrows")
                os.truncate(stream, max(0, stream.stat().st_size - torn))
            else:
                writer.close()
                durable = after + appended
            found = rounds_of(run)
            assert found == list(range(1, len(found) + 1))
            # Only what a checkpoint or a good end made durable may be relied upon, and that is never lost.
            if saved or not killed:
                assert len(found) == durable
            after = max(0, min(len(found), durable) - back)


def test_resuming_a_finished_run_continues_from_its_parquet(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 4)
    tables.close()
    with RunTables(run, METRICS, after_round=4) as tables:
        fill(tables, 5, 6)
    assert rounds_of(run) == [1, 2, 3, 4, 5, 6]


def test_a_resume_after_a_torn_batch_writes_a_whole_table(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 3)
    stream = run.rounds.with_suffix(".arrows")
    os.truncate(stream, stream.stat().st_size - 100)
    with RunTables(run, METRICS, after_round=2) as again:
        fill(again, 3, 4)
    assert rounds_of(run) == [1, 2, 3, 4]


def test_a_resume_drops_rounds_that_only_parquet_has(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 8)
    tables.close()
    again = RunTables(run, METRICS, after_round=3)
    assert rounds_of(run) == [1, 2, 3]
    again.append(make_row(4), make_clients(4))
    assert rounds_of(run) == [1, 2, 3, 4]
    again.close()


def test_starting_again_drops_everything(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 3)
    tables.close()
    with RunTables(run, METRICS) as again:
        assert rounds_of(run) == []
        fill(again, 1, 1)
    assert rounds_of(run) == [1]


def test_a_resume_may_measure_more_and_keeps_what_was_measured(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 2)
    tables.close()
    with RunTables(run, ["train/loss", "validation/loss"], after_round=2) as again:
        again.append(make_row(3, metrics={"validation/loss": 0.5}))
    table = read_rounds(run)
    assert table["validation/loss"].to_pylist() == [None, None, 0.5]
    assert table["test/accuracy"].to_pylist() == [None, 0.5, None]


def test_a_resume_goes_on_with_a_table_that_lacks_a_column(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 2)
    tables.close()
    older = pq.read_table(run.rounds).drop_columns(["transport_state_across"])
    pq.write_table(older, run.rounds)
    with RunTables(run, METRICS, after_round=2) as again:
        fill(again, 3, 3)
    assert read_rounds(run)["transport_state_across"].to_pylist() == [None, None, 0]


@pytest.mark.parametrize("ended", [True, False])
def test_a_table_with_the_names_of_an_older_version_is_read_and_continued(
    run: RunDirectory, tables: RunTables, ended: bool
) -> None:
    then = {new: old for old, new in FORMERLY.items()}
    fill(tables, 1, 2)
    tables.close()
    table = pq.read_table(run.rounds)
    older = table.rename_columns([then.get(name, name) for name in table.schema.names])
    assert "bytes_up" in older.schema.names
    if ended:
        pq.write_table(older, run.rounds)
    else:  # killed before anything was folded
        run.rounds.unlink()
        with pa.ipc.new_stream(run.rounds.with_suffix(".arrows"), older.schema) as stream:
            stream.write_table(older)
    assert read_rounds(run).equals(table)
    assert read_run(run.path).total("transport_up") == 200
    with RunTables(run, METRICS, after_round=1) as again:
        fill(again, 2, 3)
    found = read_rounds(run)
    assert found.schema.names == table.schema.names
    assert found["transport_up"].to_pylist() == [100, 100, 100]
    assert pq.read_schema(run.rounds).equals(table.schema)


def test_large_tables_are_folded_when_they_have_doubled(
    run: RunDirectory, tables: RunTables, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("raysim.tracking.tables.SMALL_STREAM", 0)
    folded = []
    for round in range(1, 33):
        tables.append(make_row(round))
        tables.save()
        folded.append(pq.read_metadata(run.rounds).num_rows)
        assert rounds_of(run)[-1] == round
    assert len(set(folded)) <= 7
    tables.close()
    assert pq.read_metadata(run.rounds).num_rows == 32


def test_what_is_folded_is_not_folded_again(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 2)
    tables.save()
    written = run.rounds.stat().st_ino
    tables.close()
    assert run.rounds.stat().st_ino == written
    assert rounds_of(run) == [1, 2]


def test_a_folder_whose_name_looks_like_a_uri_holds_tables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    run = RunDirectory.create_at(Path("math:pi") / "run", Experiment())
    with RunTables(run, METRICS) as tables:
        fill(tables, 1, 2)
        tables.save()
        fill(tables, 3, 3)
    assert rounds_of(run) == client_rounds_of(run)[::4] == [1, 2, 3]


def test_many_small_batches_become_few_row_groups(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 200)
    tables.close()
    assert pq.read_metadata(run.clients).num_row_groups == 1


def test_leftovers_of_a_killed_writer_are_swept(run: RunDirectory) -> None:
    (run.path / ".rounds.parquet.123.tmp").write_bytes(b"half")
    RunTables(run, METRICS).close()
    assert not list(run.path.glob(".*.tmp"))


def test_a_damaged_table_is_one_clear_line(run: RunDirectory) -> None:
    run.rounds.write_bytes(b"PAR1 this is not Parquet")
    with pytest.raises(RunError, match=r"rounds.parquet: damaged, or not a table of a run"):
        read_rounds(run)
    with pytest.raises(RunError, match=r"rounds.parquet: damaged"):
        RunTables(run, METRICS, after_round=1)


def test_columns_of_the_clients_table_can_be_chosen(run: RunDirectory, tables: RunTables) -> None:
    fill(tables, 1, 2)
    tables.save()
    fill(tables, 3, 3)
    names = {tuple(batch.schema.names) for batch in read_clients(run, ["client"])}
    assert names == {("round", "client")}
