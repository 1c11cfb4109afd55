"""A run directory that is a volume: an empty folder with a mount at it, which cannot be renamed or removed."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

COMMAND = "from raysim.cli import main; main()"
SHORT = ["rounds=1", "execution.executor=inprocess", "tracking.report=false", "--quiet"]


def test_a_run_lives_in_a_mounted_volume(tmp_path: Path) -> None:
    if shutil.which("unshare") is None:
        pytest.skip("unshare is missing")
    volume = tmp_path / "volume"
    volume.mkdir()
    mounting = f"mount -t tmpfs none '{volume}' && "
    mounted = ["unshare", "--user", "--map-root-user", "--mount", "sh", "-c"]
    if subprocess.run([*mounted, f"{mounting}true"], capture_output=True).returncode != 0:
        pytest.skip("this user may mount nothing in a namespace of their own")
    run = [sys.executable, "-c", COMMAND, "run", "quickstart", *SHORT, "--directory", str(volume)]
    script = f'{mounting}"$@" && ls "{volume}" && stat --format %m "{volume}"'
    done = subprocess.run([*mounted, script, "sh", *run], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    where, *left, mount = done.stdout.splitlines()
    assert where == mount == str(volume)
    assert {"config.yaml", "model.safetensors", "rounds.parquet"} <= set(left)
    assert not list(volume.iterdir()), "all of it was in the mount"
