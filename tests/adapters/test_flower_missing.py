"""Without flwr, an app is refused with what to install."""

from __future__ import annotations

import sys

import pytest
from command_line import invoke

from raysim.adapters.flower.library import library


def test_without_flwr_one_line_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "flwr", None)
    library.cache_clear()
    result = invoke("run", "flower:my_app")
    library.cache_clear()
    assert result.exit_code == 2
    assert result.stderr == "error: an app of Flower needs flwr, which is missing; pip install 'raysim-fl[flower]'\n"
