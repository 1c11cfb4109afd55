"""What a notebook shows: a display that is updated in place, results as HTML, tables as frames."""

from __future__ import annotations

import ast
import json
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from synthetic_runs import make_run

import raysim
from raysim import Experiment
from raysim.errors import ConfigError
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking import NotebookObserver, ResultTable, open_observers, past_runs
from raysim.tracking.report.groups import Compared, Contrast, Group
from raysim.tracking.report.thumbnail import thumbnail
from raysim.tuning.notebook import NotebookStudy
from raysim.tuning.progress import StudyResult, TrialLine

NOTEBOOK = Path(__file__).parents[2] / "docs" / "notebook.ipynb"


class Display:
    """IPython's display: what was shown first, and every update of it."""

    def __init__(self) -> None:
        self.pages: list[str] = []
        self.handles = 0

    def display(self, content: str, *, display_id: bool) -> Display:
        assert display_id
        self.handles += 1
        self.pages.append(content)
        return self

    def update(self, content: str) -> None:
        self.pages.append(content)


@pytest.fixture
def display(monkeypatch: pytest.MonkeyPatch) -> Iterator[Display]:
    """A kernel of Jupyter, as far as raysim looks."""
    shown = Display()
    ipython, module = ModuleType("IPython"), ModuleType("IPython.display")
    vars(ipython).update(get_ipython=lambda: SimpleNamespace(kernel=object()), display=module)
    vars(module).update(HTML=str, display=shown.display)
    monkeypatch.setitem(sys.modules, "IPython", ipython)
    monkeypatch.setitem(sys.modules, "IPython.display", module)
    return shown


def row(number: int, accuracy: float, **more: Any) -> RoundRow:
    values: dict[str, Any] = {"cohort": 3, "trained": 3, "dropped": 0, "clamped": 0, "samples": 9, "steps": 3, **more}
    metrics = {"train/loss": 0.5, "test/accuracy": accuracy}
    return RoundRow(round=number, transport_up=1, transport_down=1, lr=0.1, metrics=metrics, **values)


def told(observer: NotebookObserver, rounds: int) -> None:
    observer.preparing("building <shards>")
    observer.start(Experiment(name="tiny", rounds=rounds), {"run": "runs/tiny"})
    observer.note("a <note>", "warning")
    for number in range(1, rounds + 1):
        observer.round(row(number, number / 100))
    observer.finish(RunSummary(rounds, "all rounds are done", 1.0, {"test/accuracy": rounds / 100}))


def test_a_run_has_one_display_which_every_round_updates(display: Display) -> None:
    told(NotebookObserver(every=0), 3)
    assert display.handles == 1
    preparing, start, *rounds, end = display.pages
    assert "building &lt;shards&gt;" in preparing
    assert "0/3" in start
    assert [f"{done}/3" in page for done, page in enumerate(rounds, start=1)] == [True] * 3
    assert "polyline" in rounds[-1]
    assert "test/accuracy 0.0300, best 0.0300 in round 3" in rounds[-1]
    assert "warning: a &lt;note&gt;" in rounds[-1]
    assert "all rounds are done" in end
    assert "<progress" not in end


def test_rounds_that_are_shorter_than_an_update_wait_for_the_next(display: Display) -> None:
    told(NotebookObserver(every=1e9), 50)
    assert len(display.pages) == 3, "while it is prepared, at the start and at the end"
    assert "test/accuracy 0.5000, best 0.5000 in round 50" in display.pages[-1]


def test_the_live_table_of_a_terminal_is_the_display_of_a_notebook(display: Display) -> None:
    open_observers("terminal").start(Experiment(name="tiny"), {})
    assert display.handles == 1


def test_elsewhere_the_terminals_stays(monkeypatch: pytest.MonkeyPatch, display: Display) -> None:
    monkeypatch.setattr(sys.modules["IPython"], "get_ipython", lambda: None)
    open_observers("terminal").preparing("data")
    assert display.handles == 0


def test_a_display_without_ipython_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "IPython", None)
    monkeypatch.setitem(sys.modules, "IPython.display", None)
    for made in (NotebookObserver, NotebookStudy):
        with pytest.raises(ConfigError, match=r"pip install 'raysim-fl\[notebook\]'"):
            made()


def test_a_study_has_one_display_which_every_trial_updates(display: Display) -> None:
    study = NotebookStudy()
    study.start({"study": "runs/s"})
    study.trial(TrialLine(4, 1, 2, "complete", {"validation/accuracy": 0.5}, {"lr": 0.25}, 3, 1.0, (0.5, 4)))
    study.finish(["best    trial 4"], StudyResult(Path("runs/s"), 4, {}, {}, None, None, None))
    assert display.handles == 1
    assert "1/2 trials, best 0.5000 (trial 4)" in display.pages[1]
    assert "lr=0.25" in display.pages[1]
    assert "best    trial 4" in display.pages[-1]


def test_tables_are_columns_rows_and_frames() -> None:
    shown = ResultTable(pa.table({"round": list(range(1, 31)), "test/accuracy": [None, *np.linspace(0, 1, 29)]}))
    assert (len(shown), shown.columns, shown._ipython_key_completions_()) == (30, *[["round", "test/accuracy"]] * 2)
    assert np.isnan(shown["test/accuracy"][0])
    assert shown["test/accuracy"][-1] == 1
    html = shown._repr_html_()
    assert html.count("<tr>") == 1 + 5 + 1 + 5
    assert ">–<" in html
    assert "30 rows" in html
    with pytest.raises(KeyError, match="no column 'loss'; there are round, test/accuracy"):
        shown["loss"]
    frame = shown.to_pandas()
    assert list(frame.columns) == shown.columns
    assert frame["test/accuracy"].iloc[-1] == 1


def test_without_pandas_a_frame_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pandas", None)
    with pytest.raises(ConfigError, match=r"to_pandas needs pandas .*; install it with `pip install 'raysim-fl\[noteb"):
        ResultTable(pa.table({"a": [1]})).to_pandas()


def test_the_runs_of_a_folder_are_a_table_and_each_has_its_curve(tmp_path: Path) -> None:
    make_run(tmp_path, "plain", cohort=3)
    runs = past_runs(tmp_path)
    assert "<td>plain</td>" in runs._repr_html_()
    assert list(runs.to_pandas()["state"]) == ["finished"]
    (run,) = runs
    assert f"<strong>{run.path.name}</strong>" in run._repr_html_()
    assert "polyline" in run._repr_html_()
    assert len(run.table()) == run.rounds
    assert set(run.table("clients")["round"]) <= set(run.table()["round"])
    with pytest.raises(ConfigError, match="unknown table 'steps'; valid are rounds and clients"):
        run.table("steps")  # type: ignore[arg-type]  # what is refused


def test_a_comparison_is_a_table() -> None:
    curve = np.zeros(0), np.zeros((2, 0))
    groups = tuple(Group(f"lr {lr} <", (0, 1), np.array([lr, lr + 0.1]), curve) for lr in (0.1, 0.5))
    found = Compared("test/accuracy", "last", groups, (Contrast("lr 0.5", 0.4, 0.1, 2),))
    assert "lr 0.1 &lt;" in found._repr_html_()
    frame = found.to_pandas()
    assert frame["difference"].iloc[1] == 0.4
    assert frame["more_than_seeds"].iloc[1]


def test_an_experiment_shows_what_differs_from_the_defaults() -> None:
    shown = Experiment.parse({"name": "mine", "rounds": 7, "algorithm": {"name": "fedprox", "mu": 0.5}})._repr_html_()
    brief, _, every = shown.partition("<details>")
    assert "rounds: 7" in brief
    assert "name: fedprox" in brief
    assert "cohort" not in brief
    assert "cohort: 10" in every


def test_a_summary_shows_how_the_run_ended() -> None:
    shown = RunSummary(2, "all <rounds>", 1.0, {"test/accuracy": 0.5}, Path("runs/a"))._repr_html_()
    assert "all &lt;rounds&gt;" in shown
    assert "<td>test/accuracy</td><td>0.5</td>" in shown


def test_what_is_imported_when_it_is_used_is_listed_before() -> None:
    assert {"Experiment", "Simulation", "tune", "debug", "export"} <= set(dir(raysim))


@pytest.mark.parametrize("values", [[], [0.5], [0.5, 0.5], list(range(5000))])
def test_a_small_picture_takes_any_curve(values: list[float]) -> None:
    rounds = np.arange(1, len(values) + 1, dtype=np.float64)
    picture = thumbnail(rounds, np.array(values, dtype=np.float64), "a <b>").text
    assert "a &lt;b&gt;" in picture
    assert "nan" not in picture
    assert len(picture) < 6000


def test_the_notebook_runs_from_top_to_bottom(
    display: Display, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    content = json.loads(NOTEBOOK.read_text(encoding="utf-8"))
    assert not [cell for cell in content["cells"] if cell.get("outputs") or cell.get("execution_count")]
    names: dict[str, Any] = {"__name__": "__main__"}
    shown = []
    for number, cell in enumerate(content["cells"]):
        if cell["cell_type"] != "code":
            continue
        tree = ast.parse("".join(cell["source"]))
        last = tree.body.pop() if isinstance(tree.body[-1], ast.Expr) else None
        exec(compile(tree, f"cell {number}", "exec"), names)
        if isinstance(last, ast.Expr):
            value = eval(compile(ast.Expression(last.value), f"cell {number}", "eval"), names)
            shown.append(value._repr_html_() if hasattr(value, "_repr_html_") else repr(value))
    assert len(shown) == 9
    assert all(shown)
    assert display.handles == 2, "the run and the study"
