"""Three apps of Flower, unchanged, in Flower's own simulation and in raysim, by turns: the same results, and the time.

The apps stand in tests/adapters/apps: a torch app in the layout of Flower's quickstart-pytorch, one of scikit-learn
with a NumPyClient and a classic strategy, and one with a strategy of its own. Each turn is a process of its own, with
two client actors of one core each in both. `seconds` is from the start of Ray to the last round's end; `rounds` is
from the first round on.

    python benchmarks/flower_apps.py            # needs raysim-fl[flower]; writes benchmarks/results/flower_apps.json
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

HERE = Path(__file__).parent
APPS = HERE.parent / "tests" / "adapters" / "apps"
RESULT = HERE / "results" / "flower_apps.json"
TURNS, ACTORS = 3, 2
CASES: dict[str, dict[str, Any]] = {
    "torch_app": {"nodes": 20, "run": {"num-server-rounds": 5, "fixed-seed": True, "fraction-evaluate": 1.0}},
    "sklearn_app": {"nodes": 20, "run": {"num-server-rounds": 5}},
    "strategy_app": {"nodes": 20, "run": {"num-server-rounds": 5}},
}


class Watcher:
    """Keeps what strategies aggregate."""

    def __init__(self) -> None:
        self.metrics: dict[str, float] = {}
        self.model: dict[str, Any] = {}
        self.began = 0.0

    def expect(self, rounds: int, strategy: Any) -> None:
        """The first round begins."""
        self.began = time.perf_counter()

    def measured(self, round: int, where: str, metrics: Any) -> None:
        """By round and name."""
        self.metrics |= {f"{round}/{where}/{name}": float(value) for name, value in (metrics or {}).items()}

    def arrays(self, arrays: Any) -> None:
        """The newest model."""
        self.model = dict(arrays)


def in_flower(app: str, nodes: int, run: dict[str, Any]) -> dict[str, Any]:
    """In Flower's own simulation."""
    from flwr.app import Context, RecordDict
    from flwr.common.config import get_fused_config_from_dir, get_project_config
    from flwr.simulation.run_simulation import _run_simulation
    from flwr.supercore.constant import NOOP_FEDERATION_ID
    from flwr.supercore.run import Run
    from flwr.supercore.telemetry import EventType

    from raysim.adapters.flower.library import identify
    from raysim.adapters.flower.watching import watching

    folder, run_id = APPS / app, 7
    parts = get_project_config(folder)["tool"]["flwr"]["app"]["components"]
    told = Run.create_empty(run_id)
    told.primary_task_id, told.federation_id, told.override_config = 1, NOOP_FEDERATION_ID, run
    config = get_fused_config_from_dir(folder, run)
    identify(run_id)
    watcher, began = Watcher(), time.perf_counter()
    with watching(watcher):
        _run_simulation(
            num_supernodes=nodes,
            exit_event=EventType.PYTHON_API_RUN_SIMULATION_LEAVE,
            backend_config={"client_resources": {"num_cpus": 1, "num_gpus": 0.0}, "init_args": {"num_cpus": ACTORS}},
            client_app_attr=parts["clientapp"],
            server_app_attr=parts["serverapp"],
            server_app_context=Context(run_id, 0, {}, RecordDict(), config),
            app_dir=str(folder),
            run=told,
            is_app=True,
        )
    return _told(watcher, began)


def in_raysim(app: str, nodes: int, run: dict[str, Any]) -> dict[str, Any]:
    """In raysim."""
    from raysim.adapters.flower import FlowerSimulation, simulation
    from raysim.adapters.flower.watching import watching

    watcher, inner = Watcher(), simulation.watching

    def both(recording: Any) -> Any:
        watcher.began = time.perf_counter()
        return inner(_Both(recording, watcher))

    simulation.watching = both
    began = time.perf_counter()
    with tempfile.TemporaryDirectory() as folder:
        config = {
            "nodes": nodes,
            "run": run,
            "execution": {"actors": ACTORS, "num_cpus": 1},
            "tracking": {"report": False},
        }
        FlowerSimulation(str(APPS / app), config, directory=Path(folder) / "run").run()
    assert watching is inner
    return _told(watcher, began)


class _Both:
    """Tells two watchers."""

    def __init__(self, *watchers: Any) -> None:
        self._watchers = watchers

    def __getattr__(self, name: str) -> Any:
        def tell(*given: Any) -> None:
            for watcher in self._watchers:
                getattr(watcher, name)(*given)

        return tell


def _told(watcher: Watcher, began: float) -> dict[str, Any]:
    now = time.perf_counter()
    return {
        "seconds": now - began,
        "rounds": now - watcher.began,
        "metrics": watcher.metrics,
        "model": {name: np.asarray(array, np.float64).ravel().tolist() for name, array in watcher.model.items()},
    }


def difference(one: dict[str, Any], other: dict[str, Any]) -> float:
    """The largest difference of any metric of any round, and of any number of the model."""
    assert one["metrics"].keys() == other["metrics"].keys(), (one["metrics"], other["metrics"])
    assert one["model"].keys() == other["model"].keys()
    apart = [abs(one["metrics"][name] - other["metrics"][name]) for name in one["metrics"]]
    apart += [float(np.abs(np.subtract(one["model"][name], other["model"][name])).max()) for name in one["model"]]
    return max(apart)


def turn(where: str, app: str) -> dict[str, Any]:
    """One run in a process of its own."""
    with tempfile.NamedTemporaryFile(suffix=".json") as out:
        command = [sys.executable, __file__, where, app, out.name]
        subprocess.run(command, check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        return read(Path(out.name))


def read(file: Path) -> dict[str, Any]:
    """What a run in a process of its own came to."""
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def main() -> None:
    """All apps, by turns."""
    import flwr

    result: dict[str, Any] = {"flwr": flwr.__version__, "turns": TURNS, "actors": ACTORS, "apps": {}}
    for app, case in CASES.items():
        runs: dict[str, list[dict[str, Any]]] = {"flower": [], "raysim": []}
        for _ in range(TURNS):
            for where, done in runs.items():
                done.append(turn(where, app))
        told = {
            where: {what: [round(one[what], 3) for one in done] for what in ("seconds", "rounds")}
            for where, done in runs.items()
        }
        ratio = {
            what: round(statistics.median(a[what] / b[what] for a, b in zip(*runs.values(), strict=True)), 2)
            for what in ("seconds", "rounds")
        }
        apart = max(difference(a, b) for a, b in zip(*runs.values(), strict=True))
        result["apps"][app] = {**case, "difference": apart, "ratio": ratio, **told}
        print(app, result["apps"][app], flush=True)
        RESULT.write_text(json.dumps(result, indent=2) + "\n")


if __name__ == "__main__":
    if len(sys.argv) == 4:
        where, app, out = sys.argv[1:]
        case = CASES[app]
        answer = (in_flower if where == "flower" else in_raysim)(app, case["nodes"], case["run"])
        Path(out).write_text(json.dumps(answer))
    else:
        main()
