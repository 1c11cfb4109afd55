"""A shell completes commands, bundled configurations, files and keys."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from raysim.cli.options import _configs, _keys

ASK = "from raysim.cli import main; import sys; sys.argv[0] = 'raysim'; main()"


def test_bash_asks_the_program_and_gets_what_begins_so(folder: Path) -> None:
    environment = {"_RAYSIM_COMPLETE": "complete_bash", "COMP_WORDS": "raysim run quick", "COMP_CWORD": "2"}
    asked = subprocess.run(
        [sys.executable, "-c", ASK], capture_output=True, text=True, timeout=120, env={"PATH": "", **environment}
    )
    assert asked.stdout.split() == ["quickstart"], asked.stderr


def test_configurations_are_bundled_ones_and_files(folder: Path) -> None:
    (folder / "more").mkdir()
    (folder / "more" / "tiny2.yaml").touch()
    assert list(_configs("tin")) == ["tiny.yaml"]
    assert list(_configs("mor")) == ["more/tiny2.yaml"]
    assert "llm/diloco" in list(_configs("llm/"))


@pytest.mark.parametrize(("given", "key"), [("algo", "algorithm="), ("client.opt", "client.optimizer.lr=")])
def test_keys_are_those_of_the_configuration(given: str, key: str) -> None:
    found = list(_keys(given))
    assert key in found
    assert all(one.startswith(given) for one in found)
