"""Where apps are found, and what is said where there is none: one line, exit code 2."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import jsonschema
import pytest
from command_line import invoke

pytest.importorskip("flwr")
from app_runs import APPS

from raysim.adapters.flower import find_app, library
from raysim.cli.json_outputs.schemas import output_schema
from raysim.errors import ConfigError

QUICK = ("execution.executor=inprocess", "nodes=2")


def refused(*arguments: str) -> str:
    """The one line of a command that fails."""
    result = invoke(*arguments)
    assert result.exit_code == 2, result.output
    lines = [line for line in result.stderr.splitlines() if line.startswith("error: ")]
    assert len(lines) == 1, result.stderr
    return lines[0]


def written(folder: Path, name: str, text: str) -> Path:
    """A file with this text."""
    file = folder / name
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(text)
    return file


def test_a_folder_says_where_its_halves_are_and_how_it_is_run() -> None:
    app = find_app(str(APPS / "torch_app"))
    assert (app.name, app.nodes, app.num_cpus, app.num_gpus) == ("quickstart-pytorch", 10, 1.0, None)
    assert app.config["num-server-rounds"] == 3
    assert find_app(str(APPS / "torch_app" / "pyproject.toml")) == app
    momentum = find_app(str(APPS / "strategy_app"))
    assert momentum.config["server.momentum"] == 0.5
    assert momentum.configured({"server": {"momentum": 0.9}}).config["server.momentum"] == 0.9


def test_a_module_a_package_and_a_name_are_apps_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    halves = "from flwr.clientapp import ClientApp\nfrom flwr.serverapp import ServerApp\n"
    written(tmp_path, "one_module.py", f"{halves}server = ServerApp()\nclient = ClientApp()\n")
    written(tmp_path, "a_package/__init__.py", "")
    written(tmp_path, "a_package/client_app.py", "from flwr.clientapp import ClientApp\napp = ClientApp()\n")
    written(tmp_path, "a_package/server_app.py", "from flwr.serverapp import ServerApp\napp = ServerApp()\n")
    written(
        tmp_path,
        "start_style.py",
        "import flwr as fl\nfrom flwr.client import NumPyClient\nfrom flwr.server import ServerConfig\n"
        "from flwr.server.strategy import FedAvg\n"
        "def client_fn(cid: str):\n    return NumPyClient().to_client()\n"
        "strategy, config = FedAvg(), ServerConfig(num_rounds=2)\n"
        "if __name__ == '__main__':\n    fl.simulation.start_simulation(client_fn=client_fn, num_clients=2)\n",
    )
    written(
        tmp_path,
        "pair.py",
        f"{halves}class both:\n    server_app = ServerApp()\n    client_app = ClientApp()\nother = ServerApp()\n",
    )
    flwr = library.library()
    for target in ("one_module", "one_module:server", "one_module:client", "a_package", "start_style", "pair:both"):
        app = find_app(target)
        assert isinstance(app.source.server_app(), flwr.ServerApp), target
        assert isinstance(app.source.client_app(), flwr.ClientApp), target
    written(tmp_path, "two.py", f"{halves}other = ServerApp()\nsecond = ServerApp()\nc = ClientApp()\n")
    two = find_app("two").source
    with pytest.raises(ConfigError, match="several of ServerApp: other, second"):
        two.server_app()


def test_what_is_no_app_is_refused_in_one_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    empty = tmp_path / "empty"
    empty.mkdir()
    assert "no pyproject.toml in it; name a folder" in refused("run", f"flower:{empty}")
    assert "no such folder; name a folder with pyproject.toml" in refused("run", "flower:no/such")
    assert "no module 'no_such_module_anywhere'" in refused("run", "flower:no_such_module_anywhere", *QUICK)
    written(tmp_path, "plain/pyproject.toml", "[project]\nname = 'x'\n")
    assert "[tool.flwr.app.components] has no serverapp and no clientapp" in refused("run", "flower:plain")
    written(tmp_path, "half/pyproject.toml", "[tool.flwr.app.components]\nserverapp = 'a:b'\n")
    assert "[tool.flwr.app.components] has no clientapp" in refused("run", "flower:half")
    written(tmp_path, "agent/pyproject.toml", "[tool.flwr.app.components]\nagentapp = 'a:b'\n")
    assert f"flwr {library.library().version}: an agentapp" in refused("run", "flower:agent")
    written(tmp_path, "bad/pyproject.toml", "[tool\n")
    assert "pyproject.toml: cannot be read" in refused("run", "flower:bad")
    written(tmp_path, "broken_app.py", "raise OSError('no disk')\n")
    assert "importing broken_app fails: OSError: no disk" in refused("run", "flower:broken_app", *QUICK)
    written(tmp_path, "nothing_app.py", "")
    assert "has no ServerApp and no server_fn(context)" in refused("run", "flower:nothing_app", *QUICK)
    written(tmp_path, "wrong_app.py", "app = 3\n")
    assert "wrong_app:app is a int; name a ServerApp" in refused("run", "flower:wrong_app:app")


def test_a_federation_of_the_apps_own_is_refused_with_version_and_call(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    written(tmp_path, "starting_app.py", "from flwr.simulation import run_simulation\nrun_simulation(None, None, 2)\n")
    line = refused("run", "flower:starting_app", *QUICK)
    assert f"flwr {library.library().version}: flwr.simulation.run_simulation() starts a federation of its own" in line


def test_keys_that_an_app_or_a_run_does_not_have_are_refused() -> None:
    app = f"flower:{APPS / 'torch_app'}"
    assert "did you mean 'num-server-rounds'?" in refused("run", app, "run.num-server-round=3")
    assert "unknown key 'node'; did you mean 'nodes'?" in refused("run", app, "node=3")
    assert "unknown key 'execution.classes'" in refused("run", app, "execution.classes={}")
    assert "run.learning-rate: expected a number" in refused("run", app, "run.learning-rate=[1]")
    assert "--profile: an app of Flower has no phases" in refused("run", app, "--profile")


def test_an_earlier_version_of_flower_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys.modules["flwr"], "__version__", "1.20.0")
    library.library.cache_clear()
    assert "flwr 1.20.0 has no Message API as of 1.21" in refused("run", f"flower:{APPS / 'torch_app'}")
    monkeypatch.undo()
    library.library.cache_clear()
    assert not library.untried()


def test_json_of_a_run_follows_its_schema_and_the_report_is_written(tmp_path: Path) -> None:
    app, run = f"flower:{APPS / 'strategy_app'}", tmp_path / "run"
    result = invoke("run", app, *QUICK, "run.num-server-rounds=2", "run.raising=1", "--json", "--directory", str(run))
    assert result.exit_code == 0, result.output
    events = [json.loads(line) for line in result.stdout.splitlines()]
    for event in events:
        jsonschema.validate(event, output_schema("run"))
    assert [event["event"] for event in events] == ["start", "round", "round", "note", "finish"]
    assert events[0]["rounds"] == 2
    assert [event["dropped"] for event in events if event["event"] == "round"] == [1, 1]
    page = (run / "report.html").read_text()
    assert "partition 1 is broken" in page
    assert "train/loss" in page
    assert invoke("report", str(run), "--out", str(tmp_path / "other.html")).exit_code == 0
    again = invoke("resume", str(run), "run.num-server-rounds=3", "--quiet", "--no-report")
    assert again.exit_code == 0, again.output
    assert again.stdout.strip() == str(run)
    assert "a resume of an app changes only" in refused("resume", str(run), "nodes=5")
