"""The report of a study."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from matplotlib.text import Text
from studies import LR, Tunable

from raysim import tune
from raysim.errors import RunError
from raysim.serving.folder import RunsFolder
from raysim.serving.site import Site
from raysim.tracking.report.style import Picture, Theme
from raysim.tuning.report import write_study_report


def test_the_report_shows_the_search_the_weights_and_the_confirmation(tunable: Tunable, tmp_path: Path) -> None:
    tuning = {
        "space": LR,
        "weights": {"name": "groups", "groups": {"<odd>": [1, 3, 5], "even": [0, 2, 4]}},
        "pruner": {"name": "median", "startup": 6},
        "trials": 9,
        "confirm": {"seeds": 2},
    }
    tuned = tune(tunable(tuning), directory=tmp_path / "study")
    page = write_study_report(tuned.directory).read_text(encoding="utf-8")
    assert "&lt;odd&gt;" in page
    assert "<odd>" not in page
    assert "http" not in page.replace("http-equiv", ""), "the page needs nothing from elsewhere"
    names = {path.stem for path in (tuned.directory / "figures").iterdir()}
    assert {"history", "weights", "slices", "parallel", "importances", "confirmation"} <= names
    for heading in ("The search", "Weights", "Parameters", "The best trials", "Confirmation", "What was asked for"):
        assert f"<h2>{heading}</h2>" in page
    live = Site(RunsFolder(tmp_path))
    assert 'href="/studies/study"' in live.answer("/", {}).body.decode()
    shown = live.answer("/studies/study", {}).body.decode()
    assert "&lt;odd&gt;" in shown
    assert 'href="/runs/study/trials/00008"' in shown
    assert live.answer("/runs/study/trials/00008", {}).status == 200


def test_structured_choices_are_words_and_axes_have_plain_numbers(
    tunable: Tunable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    space = {
        "client.optimizer": {"choices": [{"name": "sgd", "lr": 0.1}, {"name": "sgd", "lr": 0.1, "momentum": 0.5}]},
        "client.batch_size": {"low": 2, "high": 64, "log": True},
    }
    texts: list[str] = []

    def png(picture: Picture, theme: Theme) -> bytes:
        figure = picture.draw(theme)
        figure.draw_without_rendering()
        texts.extend(text.get_text() for text in figure.findobj(Text))
        return b"drawn"

    monkeypatch.setattr(Picture, "png", png)
    tuned = tune(tunable({"space": space, "trials": 6, "confirm": {"seeds": 0}}), directory=tmp_path / "study")
    page = write_study_report(tuned.directory).read_text(encoding="utf-8")
    assert "sgd, lr 0.1, momentum 0.5" in page
    assert "&quot;name&quot;" not in page
    assert any("momentum 0.5" in text for text in texts)
    assert not any("$" in text or "{" in text for text in texts)


def test_several_objectives_show_their_front_and_a_study_may_be_young(tunable: Tunable, tmp_path: Path) -> None:
    space = {"client.steps": {"low": 1, "high": 6}}
    soon = {"metric": "validation/accuracy", "of": "rounds_to", "target": 0.01}
    tuning = {"space": space, "objective": ["validation/accuracy", "total/steps", soon], "trials": 1}
    tuned = tune(tunable(tuning), directory=tmp_path / "study")
    page = write_study_report(tuned.directory, tmp_path / "out.html")
    assert page == tmp_path / "out.html"
    assert (tmp_path / "out-figures" / "pareto.png").is_file()
    assert re.search(r"<dt>rounds to [^<]+</dt>\n<dd>1</dd>", page.read_text()), "rounds are whole"


def test_a_report_leaves_the_journal_of_a_study_that_is_being_written_alone(tunable: Tunable, tmp_path: Path) -> None:
    study = tune(tunable({"space": LR, "trials": 1, "confirm": {"seeds": 0}}), directory=tmp_path / "study").directory
    journal, lock = study / "journal.log", study / "journal.log.lock"
    with journal.open("a") as file:
        file.write('{"op_code": 6, "half a li')
    lock.symlink_to("another process")
    written = journal.read_bytes()
    assert write_study_report(study).is_file()
    assert journal.read_bytes() == written
    assert lock.is_symlink()


def test_a_folder_that_is_no_study_is_refused(tmp_path: Path) -> None:
    with pytest.raises(RunError, match=r"not a study \(no study\.yaml in it\)"):
        write_study_report(tmp_path)
