"""The configurations that come with raysim: found by name from anywhere, and in the wheel."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from raysim.config import Experiment
from raysim.config.bundled import bundled_configs, find_config
from raysim.errors import ConfigError

ROOT = Path(__file__).parents[2]
NAMES = {
    *(file.stem for file in (ROOT / "configs").glob("*.yaml")),
    *(
        f"{family}/{file.stem}"
        for family in ("llm", "privacy", "systems", "wire")
        for file in (ROOT / "configs" / family).glob("*.yaml")
    ),
}


def test_every_configuration_is_bundled_and_said_in_a_line() -> None:
    listed = bundled_configs()
    assert set(listed) == NAMES
    assert len(set(listed.values())) == len(listed)
    assert all(text and len(text) <= 140 and "\n" not in text for text in listed.values())


def test_a_family_is_part_of_the_name(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    assert Experiment.from_yaml("llm/llama_7b_lora").name == "llama_7b_lora"


@pytest.mark.parametrize("name", ["quickstart", "quickstart.yaml"])
def test_a_name_means_the_bundled_one_unless_a_file_is_called_so(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    assert Experiment.from_yaml(name) == Experiment.of(name) == Experiment.from_yaml(ROOT / "configs/quickstart.yaml")
    assert Experiment.from_yaml(name, ["rounds=7"]).rounds == 7
    Path(name).write_text("rounds: 3\n")
    assert Experiment.from_yaml(name).rounds == 3


@pytest.mark.parametrize(
    ("given", "line"),
    [
        ("quikstart", "quikstart: no such file, and no bundled configuration; did you mean 'quickstart'?"),
        ("zzz", "zzz: no such file, and no bundled configuration; `raysim list configs` names them"),
        ("configs/mnist_2nn.yaml", "configs/mnist_2nn.yaml: no such file; to use the one that comes with raysim, "
                                   "write mnist_2nn"),
        ("configs/llm/llama_7b_lora.yaml", "configs/llm/llama_7b_lora.yaml: no such file; to use the one that comes "
                                           "with raysim, write llm/llama_7b_lora"),
        ("other/file.yaml", "other/file.yaml: no such file"),
        ("a" * 300, f"{'a' * 300}: no such file, and no bundled configuration; `raysim list configs` names them"),
    ],
)  # fmt: skip
def test_what_is_neither_is_one_line_with_the_nearest_name(
    given: str, line: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ConfigError) as caught:
        Experiment.from_yaml(given)
    assert str(caught.value) == line


def test_a_file_is_taken_as_it_is(tmp_path: Path) -> None:
    assert find_config(tmp_path) == tmp_path
    assert find_config(tmp_path / "none.yaml") == tmp_path / "none.yaml"


def test_a_wheel_has_the_configurations_the_page_and_the_texts(tmp_path: Path) -> None:
    """Built from a copy: a build leaves folders behind."""
    source = tmp_path / "source"
    source.mkdir()
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for folder in ("raysim", "configs"):
        ignored = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / folder, source / folder, symlinks=True, ignore=ignored)
    code = f"from setuptools.build_meta import build_wheel; build_wheel({str(tmp_path)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=source, check=True, capture_output=True)
    (wheel,) = tmp_path.glob("*.whl")
    with zipfile.ZipFile(wheel) as archive:
        files = set(archive.namelist())
        quickstart = archive.read("raysim/configs/quickstart.yaml")
    assert {f"raysim/configs/{name}.yaml" for name in NAMES} <= files
    assert quickstart == (ROOT / "configs" / "quickstart.yaml").read_bytes()
    assert {"raysim/tracking/report/page.html", "raysim/tracking/report/page.css", "raysim/py.typed"} <= files
    assert any(name.startswith("raysim/data/bundled/") for name in files)
