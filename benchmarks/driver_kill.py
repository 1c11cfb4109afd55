"""`kill -9` of the driver at a random moment, again and again, with a resume after each.

    python benchmarks/driver_kill.py            # 20 kills

The run comes to the model that it would have come to undisturbed, and `rounds.parquet` has each round exactly once.
Writes `benchmarks/results/driver_kill.md`.
"""

from __future__ import annotations

import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

os.environ.setdefault("RAY_AUTH_MODE", "disabled")

from raysim import Experiment
from raysim.tracking import RunDirectory, read_rounds

RESULTS = Path(__file__).parent / "results" / "driver_kill.md"
KILLS = 20
ROUNDS = 1500
COMMAND = [sys.executable, "-c", "from raysim.cli import main; main()"]
SETTING = {
    "name": "driver-kill",
    "rounds": ROUNDS,
    "cohort": 10,
    "data": {"partition": {"name": "dirichlet", "clients": 30, "alpha": 0.3}},
    "model": {"name": "mlp", "hidden": [64]},
    "client": {"epochs": 2, "batch_size": 10},
    "algorithm": {"name": "fedavg", "server_momentum": 0.9},
    "training": {"engine": "sequential"},
    "execution": {"actors": 2},
    "tracking": {"report": False, "checkpoint_every": 7},
}


def main() -> None:
    """One run in peace, one that is killed and resumed, and the table."""
    draw = random.Random(0)
    with tempfile.TemporaryDirectory() as folder:
        config, killed, peace = Path(folder, "c.yaml"), Path(folder, "killed"), Path(folder, "peace")
        Experiment.parse(SETTING).to_yaml(config)
        # One after the other in process: another executor, and the same bits.
        subprocess.run(
            [*COMMAND, "run", config, "execution.executor=inprocess", "--directory", peace, "--quiet"], check=True
        )
        reached: list[int] = []
        while len(reached) < KILLS:
            begin = ["resume", killed] if resumable(killed) else ["run", config, "--directory", killed]
            if begin[0] == "run" and killed.exists():
                killed.rename(Path(folder, f"without-a-checkpoint-{len(reached)}"))
            with subprocess.Popen([*COMMAND, *begin, "--quiet"], stderr=subprocess.DEVNULL) as driver:
                wait_for_start(killed, driver)
                time.sleep(draw.uniform(0.0, 3.0))
                driver.kill()
            if driver.returncode == 0:
                raise SystemExit(f"the run was over after {len(reached)} kills; give it more rounds")
            reached.append(read_rounds(RunDirectory(killed)).num_rows)
            print(f"kill {len(reached)}: {reached[-1]} rounds are recorded", flush=True)
        subprocess.run([*COMMAND, "resume", killed, "--quiet"], check=True)
        hashes = [digest(run) for run in (peace, killed)]
        once = read_rounds(RunDirectory(killed))["round"].to_pylist() == list(range(1, ROUNDS + 1))
    same = hashes[0] == hashes[1]
    RESULTS.write_text(
        f"{KILLS} times `kill -9` of the driver within 3 seconds of its first new round or of its start, each followed "
        f"by `raysim resume`; {ROUNDS} rounds, a checkpoint every {SETTING['tracking']['checkpoint_every']}.\n\n"
        f"Rounds recorded at each kill: {', '.join(map(str, reached))}.\n\n"
        f"| | SHA-256 of the model |\n|---|---|\n| in process, in peace | `{hashes[0]}` |\n"
        f"| on Ray, killed | `{hashes[1]}` |\n\n"
        f"The same bits: {same}. Each round exactly once in `rounds.parquet`: {once}.\n"
    )
    print(RESULTS.read_text())
    sys.exit(0 if same and once else 1)


def resumable(run: Path) -> bool:
    """Whether a checkpoint was written."""
    return any((run / "checkpoints").glob("round-*/manifest.json"))


def wait_for_start(run: Path, driver: subprocess.Popen[bytes]) -> None:
    """Until this sitting has begun its rounds."""
    sittings = len(starts(run))
    while driver.poll() is None and len(starts(run)) == sittings:
        time.sleep(0.02)


def starts(run: Path) -> list[str]:
    """Lines of the log that begin a sitting."""
    log = run / "log.jsonl"
    lines = log.read_text().splitlines() if log.exists() else []
    return [line for line in lines if line.endswith("}") and json.loads(line)["event"] == "started"]


def digest(run: Path) -> str:
    """SHA-256 of the final model."""
    return hashlib.sha256((run / "model.safetensors").read_bytes()).hexdigest()


if __name__ == "__main__":
    main()
