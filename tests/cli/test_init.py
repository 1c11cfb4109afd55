"""Projects to start from: each runs as it is, and its own test passes."""

from __future__ import annotations

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from typer.testing import Result

from raysim.cli.init import TEMPLATES, make_project

Raysim = Callable[..., Result]


@pytest.mark.parametrize("template", TEMPLATES)
def test_a_project_passes_its_own_test(template: str, folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    if template == "lora":
        pytest.importorskip("peft")
    place = make_project(template, folder / "project")
    monkeypatch.chdir(place)
    monkeypatch.syspath_prepend(str(place))
    own = runpy.run_path(str(place / "test_experiment.py"))
    try:
        own["test_the_experiment_gives_the_same_model_twice"](folder / "models")
    finally:
        for name in ("data", "network"):
            sys.modules.pop(name, None)


def test_init_makes_the_folder_and_says_what_comes_next(raysim: Raysim, folder: Path) -> None:
    made = raysim("init")
    assert (made.exit_code, made.stdout) == (0, "torch\n")
    assert "cd torch && raysim run experiment.yaml" in made.stderr
    assert (folder / "torch" / "network.py").is_file()


@pytest.mark.parametrize(
    ("line", "told"),
    [
        (["tabula"], "unknown template 'tabula'; did you mean 'tabular'?"),
        (["x"], "unknown template 'x'; valid are torch, tabular, text, lora"),
        (["text", "."], "exists already and is not empty; choose another folder"),
        (["text", "tiny.yaml"], "exists already and is not empty"),
    ],
)
def test_what_cannot_be_made_is_one_line(raysim: Raysim, line: list[str], told: str) -> None:
    refused = raysim("init", *line)
    assert refused.exit_code == 2
    (only,) = refused.stderr.splitlines()
    assert told in only
