"""Several nodes on this machine, in processes of their own: each needs a Ray of its own."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = pytest.mark.ray


def ends_as_expected(script: str, folder: Path) -> None:
    done = subprocess.run(
        [sys.executable, Path(__file__).parent / script, folder], capture_output=True, text=True, timeout=580
    )
    assert done.returncode == 0, done.stderr[-3000:]
    assert done.stdout.splitlines()[-1] == "as expected"


@pytest.mark.timeout(600)
def test_two_nodes_with_fake_gpus_are_filled_as_planned_and_reduce_to_the_same_bits(tmp_path: Path) -> None:
    ends_as_expected("two_nodes.py", tmp_path)


@pytest.mark.timeout(600)
def test_nodes_that_join_and_leave_change_no_bit_and_strangers_are_left_out(tmp_path: Path) -> None:
    ends_as_expected("elastic.py", tmp_path)
