from __future__ import annotations

import gzip
import json
import struct
from collections.abc import Callable
from pathlib import Path

import numpy as np
from typer.testing import Result

Raysim = Callable[..., Result]


def write_idx(path: Path, values: np.ndarray) -> None:
    header = struct.pack(f">4B{values.ndim}I", 0, 0, 8, values.ndim, *values.shape)
    path.write_bytes(gzip.compress(header + values.astype(np.uint8).tobytes()))


def test_build_says_where_the_shards_are_and_builds_them_once(raysim: Raysim) -> None:
    first, second = raysim("data", "build", "tiny.yaml"), raysim("data", "build", "tiny.yaml")
    assert first.exit_code == 0, first.output
    assert first.stdout == second.stdout
    folder = Path(first.stdout.splitlines()[-1].split()[1])
    assert (folder / "manifest.json").is_file()
    assert "6 clients, 1,438 training samples" in first.stdout


def test_show_lists_clients_and_writes_a_picture(raysim: Raysim, folder: Path) -> None:
    result = raysim("data", "show", "tiny.yaml", "data.partition.clients=100", "data.holdout=0.2")
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[-1].split() == ["picture", "tiny-partition.png"]
    assert (folder / "tiny-partition.png").read_bytes().startswith(b"\x89PNG")
    groups = [line.split()[0] for line in lines if line.startswith(("first", "largest", "smallest"))]
    assert groups == ["first", "largest", "smallest"]


def test_show_writes_the_picture_where_it_is_told_to(raysim: Raysim, folder: Path) -> None:
    result = raysim("data", "show", "tiny.yaml", "--png", "pictures/skew.png")
    assert result.stdout.splitlines()[-1].split() == ["picture", "pictures/skew.png"]
    assert (folder / "pictures" / "skew.png").is_file()


def test_show_names_owners_and_class_names_where_there_are_any(raysim: Raysim, folder: Path) -> None:
    rows = "".join(f"{'north' if i % 3 else 'south'},{i},{'sick' if i % 5 else 'well'}\n" for i in range(60))
    (folder / "rows.csv").write_text("where,a,y\n" + rows)
    (folder / "rows.yaml").write_text(
        "cohort: 2\ndata: {source: {name: csv, path: rows.csv, label: y, client: where}, partition: natural}\n"
    )
    result = raysim("data", "show", "rows.yaml")
    assert result.exit_code == 0, result.output
    north = next(line for line in result.stdout.splitlines() if "north" in line)
    assert "sick: " in north


def test_show_and_plan_count_what_a_corpus_has(raysim: Raysim, folder: Path) -> None:
    rows = [{"text": "ab " * size, "author": f"author {size % 3}"} for size in range(2, 20)]
    (folder / "texts.jsonl").write_text("\n".join(map(json.dumps, rows)))
    source = "{name: corpus, path: texts.jsonl, client: author, tokenizer: bytes, length: 32, packing: false}"
    (folder / "texts.yaml").write_text(
        f"cohort: 2\ndata: {{source: {source}, partition: natural}}\nmodel: {{name: lstm_char, hidden: 4}}\n"
    )
    shown = raysim("data", "show", "texts.yaml")
    assert shown.exit_code == 0, shown.output
    tokens, cut = sum(3 * size + 1 for size in range(2, 20)), sum(max(3 * size + 1 - 33, 0) for size in range(2, 20))
    (line,) = [line for line in shown.stdout.splitlines() if line.startswith("corpus")]
    assert line.split(maxsplit=1)[1] == (
        f"18 documents, {tokens} tokens, 256 token ids, 3 owners, {cut} truncated tokens"
    )
    assert f"{cut} of {tokens} source tokens left out: 9 of 18 documents are longer than 33 tokens" in shown.stdout
    planned = json.loads(raysim("plan", "texts.yaml", "execution.executor=inprocess", "--json").stdout)
    assert planned["data"]["counts"]["truncated tokens"] == cut


def test_show_and_plan_say_what_the_data_left_out(raysim: Raysim, folder: Path) -> None:
    rows = "".join(f"{'' if i % 4 == 0 else i},{i % 2 if i % 8 else 1}\n" for i in range(80))
    (folder / "holes.csv").write_text("a,y\n" + rows)
    (folder / "holes.yaml").write_text(
        "cohort: 2\ndata: {source: {name: csv, path: holes.csv, label: y}, transforms: [missing], test: 0, "
        "partition: {name: iid, clients: 2}}\n"
    )
    told = "missing: drop: 20 of 80 training samples left out: column 'a' is empty in 20"
    for command in (("data", "show"), ("data", "build"), ("plan",)):
        result = raysim(*command, "holes.yaml")
        assert result.exit_code == 0, result.output
        assert told in result.stdout
    (one,) = json.loads(raysim("plan", "holes.yaml", "--json").stdout)["data"]["left_out"]
    assert (one["part"], one["count"], one["of"], one["grave"]) == ("training", 20, 80, True)


def test_show_gives_the_range_of_targets_that_are_numbers(raysim: Raysim) -> None:
    result = raysim("data", "show", "tiny.yaml", "data.source=diabetes")
    assert result.exit_code == 0, result.output
    assert " to " in result.stdout.splitlines()[-3]


def test_import_copies_checked_files_to_the_data_home(raysim: Raysim, folder: Path) -> None:
    download = folder / "download"
    download.mkdir()
    rng = np.random.default_rng(0)
    for part, count in (("train", 60), ("t10k", 20)):
        write_idx(download / f"{part}-images-idx3-ubyte.gz", rng.integers(0, 256, (count, 28, 28)))
        write_idx(download / f"{part}-labels-idx1-ubyte.gz", np.arange(count) % 10)
    result = raysim("data", "import", "mnist", "download")
    assert result.exit_code == 0, result.output
    assert Path(result.stdout.strip()).is_relative_to(folder / "home")
    assert raysim("data", "build", "tiny.yaml", "data.source=mnist").exit_code == 0


def test_import_of_what_cannot_be_imported_is_one_line(raysim: Raysim, folder: Path) -> None:
    result = raysim("data", "import", "imagenet", "download")
    assert (result.exit_code, result.stderr) == (
        2,
        "error: cannot import 'imagenet'; valid are mnist, cifar10\n",
    )
    result = raysim("data", "import", "mnist", "download")
    assert (result.exit_code, result.stderr) == (2, "error: download: no such folder\n")
