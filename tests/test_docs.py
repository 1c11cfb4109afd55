"""The pages are true: their examples run, their configurations are valid, what they point at is there."""

from __future__ import annotations

import importlib.util
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from typer.testing import CliRunner

from raysim import Experiment
from raysim.cli import app

ROOT = Path(__file__).parents[1]
AGENTS = ROOT / "AGENTS.md"
OUTSIDE = [ROOT / name for name in ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "tests/README.md")]
PAGES = [*OUTSIDE, AGENTS, *sorted((ROOT / "docs").glob("*.md"))]
READ_BY_PEOPLE = [page for page in PAGES if page.name not in ("reference.md", "outputs.md")]

_FILE = re.compile(r"# (\w+\.py)\n")
_TABLE = re.compile(r"^\|.*\|\n\|[-:| ]+\|\n(?:\|.*\|\n?)+", re.MULTILINE)


def blocks(page: Path, language: str) -> list[str]:
    """The page's fenced blocks in a language."""
    return re.findall(rf"^```{language}\n(.*?)^```$", page.read_text(encoding="utf-8"), re.MULTILINE | re.DOTALL)


def head(table: str) -> str:
    return table.partition("\n")[0]


def name(page: Path) -> str:
    return str(page.relative_to(ROOT))


@pytest.fixture
def _empty_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A working directory with a copy of the configurations; modules imported from it are forgotten afterwards."""
    shutil.copytree(ROOT / "configs", tmp_path / "configs")
    monkeypatch.chdir(tmp_path)
    known = set(sys.modules)
    yield
    for module in set(sys.modules) - known:
        if str(getattr(sys.modules[module], "__file__", None)).startswith(str(tmp_path)):
            del sys.modules[module]


@pytest.mark.usefixtures("_empty_folder")
def test_the_program_that_searches_by_the_command_line_finds_the_best_rate(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def run(command: list[str], **named: object) -> subprocess.CompletedProcess[str]:
        done = CliRunner().invoke(app, command[1:])
        return subprocess.CompletedProcess(command, done.exit_code, done.stdout, done.stderr)

    monkeypatch.setattr("subprocess.run", run)
    (program,) = blocks(AGENTS, "python")
    assert len(program.splitlines()) <= 30
    exec(compile(program, "AGENTS.md", "exec"), {})
    best, *contrasts = capsys.readouterr().out.splitlines()
    assert re.match(r"best: client\.optimizer\.lr 0\.8 with test/accuracy 0\.\d{4} ± 0\.\d{4}$", best)
    assert len(contrasts) == 2
    assert all(re.search(r"seeds$", line) for line in contrasts)


@pytest.mark.usefixtures("_empty_folder")
@pytest.mark.parametrize(
    "page", [page for page in READ_BY_PEOPLE if blocks(page, "python") and page != AGENTS], ids=name
)
def test_every_example_runs(page: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from raysim.execution.inprocess.executor import InProcessExecutor

    # An example that says nothing of where it runs would start Ray, and come to the same bits.
    monkeypatch.setattr("raysim.opening._executor", InProcessExecutor)
    # Drawing the reports, which have tests of their own, would take longer than all the runs.
    monkeypatch.setattr("raysim.tracking.recorder.write_report", lambda runs: runs[0] / "report.html")
    for number, block in enumerate(blocks(page, "python"), start=1):
        file = _FILE.match(block)
        if file is not None:
            Path(file[1]).write_text(block, encoding="utf-8")
        else:
            exec(compile(block, f"{page.name}, example {number}", "exec"), {"__name__": "__main__"})


@pytest.mark.parametrize("page", [page for page in READ_BY_PEOPLE if blocks(page, "yaml")], ids=name)
def test_every_configuration_in_a_page_is_valid(page: Path) -> None:
    for block in blocks(page, "yaml"):
        Experiment.parse(yaml.safe_load(block), where=page.name)


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_what_a_page_points_at_is_there(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    links = [target.partition("#")[0] for target in re.findall(r"\]\(([^)\s]+)\)", text) if "://" not in target]
    assert not [target for target in links if target and not (page.parent / target).exists()]
    paths = re.findall(r"`((?:raysim|tests|configs|docs|benchmarks)/[\w./-]*\w/?)`", text)
    assert not [path for path in paths if not (ROOT / path).exists()]


def test_tables_that_are_copies_of_results_are_the_newest() -> None:
    measured: dict[str, list[str]] = {}
    for results in sorted((ROOT / "benchmarks/results").glob("*.md")):
        for table in _TABLE.findall(results.read_text(encoding="utf-8")):
            measured.setdefault(head(table), []).append(table)
    copies = [table for page in PAGES for table in _TABLE.findall(page.read_text(encoding="utf-8"))]
    copies = [table for table in copies if head(table) in measured]
    assert copies
    assert not [head(table) for table in copies if table not in measured[head(table)]]


@pytest.mark.parametrize("page", PAGES, ids=name)
def test_links_within_the_pages_lead_to_a_heading(page: Path) -> None:
    for target, anchor in re.findall(r"\]\(([^)\s:#]*)#([^)\s]+)\)", page.read_text(encoding="utf-8")):
        there = (page.parent / target) if target else page
        assert anchor in anchors(there), f"{page.name}: {target}#{anchor}"


def anchors(page: Path) -> set[str]:
    """The anchors that a Markdown page's headings get."""
    headings = re.findall(r"^#+ (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("script", ["reference", "outputs"])
def test_a_page_that_a_script_writes_is_the_newest(script: str) -> None:
    spec = importlib.util.spec_from_file_location(script, ROOT / "docs" / f"{script}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    written = module.PAGE.read_text(encoding="utf-8")
    assert written == module.page(), f"run `python docs/{script}.py`"
