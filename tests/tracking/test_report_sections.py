"""What a report says of classes, data, baselines, single clients and bytes, against what the run recorded."""

from __future__ import annotations

import json
import re
import shutil
import subprocess
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from federations import digits
from report_pages import Page, record
from synthetic_runs import METRICS, make_clients, make_row

from raysim import Simulation
from raysim.config import Experiment
from raysim.data.summary import count_labels
from raysim.errors import RunError
from raysim.rounds.rows import client_batch
from raysim.tracking import Confusion, RunDirectory, RunTables, read_confusion, read_holdings, read_rounds, write_report
from raysim.tracking.confusion import MOST, drop_later_confusion, write_confusion
from raysim.tracking.report.baselines import baselines
from raysim.tracking.report.confused import confused
from raysim.tracking.report.holdings import partition_words
from raysim.tracking.report.markup import Html
from raysim.tracking.report.recorded import read_run
from raysim.tracking.report.style import LIGHT, Picture, Theme

TELEPHONE = """<!doctype html><p id="out"></p>
<iframe id="page" src="REPORT" style="width:390px;height:900px;border:0"></iframe>
<script>document.getElementById("page").onload = () => {
  const page = document.getElementById("page").contentDocument, tables = ".scroll, pre";
  const beyond = [...page.querySelectorAll("body *")].filter(
    one => one.getBoundingClientRect().right > 391 && !one.closest(tables));
  document.getElementById("out").textContent = JSON.stringify({
    width: page.documentElement.scrollWidth, beyond: beyond.map(one => one.tagName), pictures: page.images.length,
    broken: [...page.images].filter(one => one.complete && !one.naturalWidth).length});
};</script>"""


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A finished run of which everything was recorded."""
    few = ("data.partition={name: dirichlet, clients: 8, alpha: 0.5, min_size: 5}", "data.test=0.3", "rounds=4")
    with Simulation(digits(tmp_path_factory.mktemp("whole"), *few, "evaluation.every=2")) as simulation:
        simulation.run()
        federation = simulation._prepared.federation
        labels, test = count_labels(federation), federation.server("test")
    run = RunDirectory.open(simulation.directory)
    holdings = read_holdings(run)
    assert holdings is not None
    assert holdings.labels is not None
    assert labels is not None
    assert (holdings.labels.clients == labels.clients).all()
    assert (holdings.labels.counts == labels.counts).all()
    assert holdings.summary.samples == int(np.asarray(labels.counts).sum())
    found = read_confusion(run)
    assert found is not None
    assert test is not None
    assert found[1].matrix().sum(axis=1).tolist() == np.bincount(test.y, minlength=10).tolist()
    return run.path


def test_the_confusions_of_the_last_evaluation_have_its_accuracy(whole: Path) -> None:
    run = RunDirectory.open(whole)
    found = read_confusion(run)
    assert found is not None
    round, confusion = found
    matrix = confusion.matrix()
    accuracy = [one for one in read_rounds(run)["test/accuracy"].to_pylist() if one is not None][-1]
    assert round == 4
    assert confusion.part == "test"
    assert matrix.sum() == confusion.samples
    assert np.trace(matrix) / matrix.sum() == pytest.approx(accuracy)


@pytest.fixture(scope="module")
def report(whole: Path) -> Path:
    """Its report, each picture drawn once: the dark one is as large as the light one."""
    drawn, original = dict[str, bytes](), Picture.png

    def once(self: Picture, theme: Theme) -> bytes:
        return drawn.get(self.name) or drawn.setdefault(self.name, original(self, LIGHT))

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(Picture, "png", once)
        return write_report([whole])


def test_the_whole_report_is_small_and_says_who_holds_what(whole: Path, report: Path) -> None:
    assert report.stat().st_size < 600_000
    page = Page(report)
    run = read_run(whole)
    assert run.holdings is not None
    summary = run.holdings.summary
    for word in (
        "Confusions", "Data", "Label skew: each class is spread over the clients by a Dirichlet draw", "alpha 0.5",
        f"{summary.samples:,} of 8 clients", f"{summary.skew:.2f}, 0 is identical", "Bytes", "Sent by the federation",
    ):  # fmt: skip
        assert word in page.text, word
    assert {"confusion.png", "labels.png", "extremes.png"} <= {one.name for one in (whole / "figures").iterdir()}
    assert "Baselines" not in page.text


def test_a_telephone_shows_it_without_scrolling_sideways_and_all_pictures(report: Path, tmp_path: Path) -> None:
    chromium = shutil.which("chromium") or shutil.which("chromium-browser")
    if chromium is None:
        pytest.skip("there is no Chromium: apt-get install chromium")
    page = tmp_path / "telephone.html"
    page.write_text(TELEPHONE.replace("REPORT", report.as_uri()), encoding="utf-8")
    options = ("--headless=new", "--no-sandbox", "--disable-gpu", "--allow-file-access-from-files",
               "--disable-web-security", "--virtual-time-budget=20000")  # fmt: skip
    command = [chromium, *options, f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", page.as_uri()]
    shown = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    said = re.search(r'<p id="out">(.*?)</p>', shown)
    assert said is not None
    found = json.loads(said[1])
    assert found["width"] <= 390
    assert found["beyond"] == []
    assert found["pictures"] > 8
    assert found["broken"] == 0


def test_words_say_what_the_partitioner_does(run: RunDirectory) -> None:
    assert partition_words(read_run(run.path)) == "Shuffle, then deal equal shares: iid with clients 100"


def test_of_many_classes_the_most_frequent_pairs_are_kept_and_the_largest_confusions_listed(run: RunDirectory) -> None:
    classes = 90
    target, predicted = (one.ravel() for one in np.mgrid[:classes, :classes])
    count = np.ones(classes**2, dtype=np.int64)
    count[target == predicted] = 50
    count[(target == 3) & (predicted == 7)] = 40
    everything = Confusion("test", classes, target, predicted, count, int(count.sum()))
    write_confusion(run, 6, everything)
    round, found = read_confusion(run) or (0, everything)
    assert round == 6
    assert len(found.count) == MOST
    assert found.samples == count.sum() > found.count.sum()
    assert found.largest(1) == [(3, 7, 40)]
    recorded = replace(read_run(run.path), environment={"classes": [f"kind {one}" for one in range(classes)]})
    text = confused(recorded, lambda pictures: Html("none" * len(list(pictures)))).text
    assert 'kind 3</td>\n<td>kind 7</td>\n<td class="number">40' in text
    assert "the most frequent pairs were recorded" in text
    drop_later_confusion(run, 6)
    assert read_confusion(run) is not None
    drop_later_confusion(run, 5)
    assert read_confusion(run) is None


@pytest.mark.parametrize(
    "content",
    [
        "[]",
        '{"round": 1}',
        '{"pairs": [[1, 2]], "classes": 3, "round": 1}',
        '{"round": 1, "part": "test", "classes": 2, "samples": 1, "pairs": [[0, 2, 1]]}',
    ],
)
def test_damaged_files_are_named(run: RunDirectory, content: str) -> None:
    run.confusion.write_text(content)
    with pytest.raises(RunError, match=re.escape(f"{run.confusion}: damaged")):
        read_confusion(run)
    run.holdings.write_text(content)
    with pytest.raises(RunError, match=re.escape(f"{run.holdings}: damaged")):
        read_holdings(run)


def test_a_resume_forgets_the_confusions_of_rounds_that_it_does_again(tmp_path: Path) -> None:
    with Simulation(digits(tmp_path, "rounds=2", "evaluation.every=1")) as simulation:
        simulation.run()
    run = RunDirectory.open(simulation.directory)
    values = json.loads(run.confusion.read_text())
    run.confusion.write_text(json.dumps(values | {"round": 9}))
    with Simulation.resume(run.path, overrides=["rounds=3"]) as simulation:
        assert not run.confusion.exists()
        simulation.run()
    assert (read_confusion(run) or (0, None))[0] == 3


def test_baselines_are_runs_beside_it_of_the_same_data_and_model(tmp_path: Path) -> None:
    def made(name: str, *overrides: str) -> RunDirectory:
        experiment = Experiment(rounds=2).updated(list(overrides))
        return record(RunDirectory.create_at(tmp_path / name, experiment), 2)

    federated = made("federated")
    made("other-data", "algorithm=centralised", "data.partition.clients=99")
    made("pooled", "algorithm=centralised")
    made("alone", "algorithm=local", "seed=3")
    text = baselines(read_run(federated.path)).text
    for word in (
        "this run",
        "all samples in one place</td>\n<td>pooled",
        "each client alone</td>\n<td>alone",
        "0.5000",
    ):
        assert word in text, word
    assert "other-data" not in text
    assert baselines(read_run(tmp_path / "alone")).text == ""


def test_the_curves_of_the_best_and_worst_clients_are_their_own_losses(run: RunDirectory) -> None:
    losses = {client: [3.0 - 0.3 * client / number for number in (1, 2, 3)] for client in range(7)}
    with RunTables(run, METRICS) as tables:
        for number in (1, 2, 3):
            ids = np.arange(7 if number < 3 else 6)
            rows = client_batch(
                round=number, client=ids, samples=ids + 1, steps=ids, weight=ids, seconds=ids, worker=ids,
                loss=[losses[int(one)][number - 1] for one in ids],
            )  # fmt: skip
            tables.append(make_row(number), rows)
        once = client_batch(
            round=4, client=[9], samples=[1], steps=[1], weight=[1], seconds=[1], worker=[0], loss=[99.0]
        )
        tables.append(make_row(4), once)
    found = read_run(run.path).extremes
    assert found is not None
    assert found.metric == "train/loss"
    last = {client: losses[client][2 if client < 6 else 1] for client in losses}
    ranked = sorted(last, key=lambda client: last[client])
    assert [one.client for one in found.best] == ranked[:3]
    assert [one.client for one in found.worst] == ranked[:-4:-1]
    for one in (*found.best, *found.worst):
        taken = 3 if one.client < 6 else 2
        assert one.rounds.tolist() == list(range(1, taken + 1))
        assert one.losses.tolist() == losses[one.client][:taken]


@pytest.mark.usefixtures("light_only")
def test_bytes_are_those_of_the_columns(run: RunDirectory) -> None:
    with RunTables(run, [*METRICS, "secagg/keys"]) as tables:
        for number in (1, 2):
            row = make_row(number)
            metrics = {**row.metrics, "secagg/keys": 512.0}
            tables.append(replace(row, wire_up=4000, wire_down=2000, metrics=metrics), make_clients(number))
    text = Page(write_report([run.path])).text
    for word in (
        "clients to the server 8 kB 4 kB 1 kB", "the server to clients 4 kB 2 kB 500 B",
        "keys of secure aggregation 1.02 kB 512 B 128 B", "partial sums from workers 200 B 100 B –",
    ):  # fmt: skip
        assert word in " ".join(text.split()), word
