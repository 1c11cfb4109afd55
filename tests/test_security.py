"""Nothing is unpickled from a file, and no file leads out of the folder that was named."""

from __future__ import annotations

import ast
import hashlib
import json
import pickle
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from federations import digits

import raysim
from raysim import Experiment, Simulation
from raysim.data.store import ArrowFederation
from raysim.errors import DataError, RaysimError, RunError
from raysim.tracking import CheckpointFolder, RunDirectory, read_clients, read_rounds

PACKAGE = Path(raysim.__file__).parent
LOADERS = {"pickle", "cPickle", "dill", "cloudpickle", "joblib", "shelve", "marshal"}
EVALUATE = ("eval", "exec", "__import__", "torch.load", "torch.jit.load", "torch.package.PackageImporter")
ALLOWED = {
    "cluster/references.py: ray.cloudpickle.loads",
    "cluster/references.py: pickle.dumps",
    "models/structure.py: import pickle",
}
"""What travels between the processes of one run or study, or stays in one, and never lies in a file: references, and
modules taken apart."""


def calls(tree: ast.AST) -> Iterator[tuple[str, ast.Call]]:
    """Every call, by its dotted name."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Call):
            yield ast.unparse(node.func), node


def suspicious(path: Path) -> Iterator[str]:
    """What could run code that lies in a file."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    where = path.relative_to(PACKAGE).as_posix()
    for node in ast.walk(tree):
        names = [alias.name for alias in node.names] if isinstance(node, ast.Import) else []
        names += [node.module or ""] if isinstance(node, ast.ImportFrom) else []
        yield from (f"{where}: import {name}" for name in names if name.partition(".")[0] in LOADERS)
    for name, call in calls(tree):
        keywords = {keyword.arg: ast.unparse(keyword.value) for keyword in call.keywords}
        root, _, last = name.rpartition(".")
        if LOADERS & set(name.split(".")) or name in EVALUATE:
            yield f"{where}: {name}"
        elif name.endswith("read_pickle") or keywords.get("allow_pickle", "False") != "False":
            yield f"{where}: {name} with pickles"
        elif name in ("np.load", "numpy.load") and "allow_pickle" not in keywords:
            yield f"{where}: {name} without allow_pickle=False"
        elif root == "yaml" and last in ("unsafe_load", "full_load", "load_all"):
            yield f"{where}: {name}"
        elif name == "yaml.load" and keywords.get("Loader") not in ("_Loader", "yaml.SafeLoader"):
            yield f"{where}: {name} with {keywords.get('Loader')}"


def test_no_module_can_unpickle_a_file() -> None:
    found = {one for path in PACKAGE.rglob("*.py") for one in suspicious(path)}
    assert found == ALLOWED


@pytest.mark.parametrize(
    "line",
    [
        "import pickle",
        "from cloudpickle import loads",
        "torch.load(path)",
        "np.load(path, allow_pickle=True)",
        "np.load(path)",
        "yaml.load(text, Loader=yaml.Loader)",
        "yaml.load(text)",
        "pandas.read_pickle(path)",
        "eval(text)",
    ],
)
def test_the_search_would_notice(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, line: str) -> None:
    (tmp_path / "module.py").write_text(line)
    monkeypatch.setattr("test_security.PACKAGE", tmp_path)
    assert list(suspicious(tmp_path / "module.py"))


def test_the_yaml_loaders_make_plain_values_alone() -> None:
    import yaml

    from raysim.config import parsing

    plain = {f"tag:yaml.org,2002:{name}" for name in ("null", "bool", "int", "float", "str", "seq", "map", "timestamp")}
    for loader in (parsing._Loader, parsing._QuickLoader):
        assert isinstance(loader, type)
        assert issubclass(loader, yaml.constructor.SafeConstructor)
        assert not issubclass(loader, yaml.constructor.FullConstructor)
        assert loader.yaml_constructors.keys() == {*plain, None}
        assert not loader.yaml_multi_constructors


class Trap:
    """Unpickling it leaves a mark."""

    def __init__(self, mark: Path) -> None:
        self.mark = mark

    def __reduce__(self) -> tuple[Callable[[Path], None], tuple[Path]]:
        return Path.touch, (self.mark,)


@pytest.fixture
def mark(tmp_path: Path) -> Iterator[Path]:
    """A file that is there once a trap went off."""
    path = tmp_path / "trap-went-off"
    pickle.loads(pickle.dumps(Trap(path)))
    assert path.exists(), "the trap works"
    path.unlink()
    yield path
    assert not path.exists(), "something was unpickled"


@pytest.fixture
def half_done(tmp_path: Path) -> RunDirectory:
    """A run that stopped after two of four rounds."""
    with Simulation(digits(tmp_path), directory=tmp_path / "run") as simulation:
        for done in simulation:
            if done.number == 2:
                break
    return RunDirectory.open(tmp_path / "run")


def crafted_checkpoint(run: RunDirectory, name: str, content: bytes) -> None:
    """A checkpoint with this file in it, whose manifest has the right sums."""
    folder = CheckpointFolder(run).path(2)
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def resume(run: RunDirectory) -> None:
    Simulation.resume(run.path).close()


@pytest.mark.parametrize("name", ["config.yaml", "environment.json", "rounds.parquet", "clients.parquet"])
def test_a_pickle_in_a_run_directory_is_refused(half_done: RunDirectory, mark: Path, name: str) -> None:
    (half_done.path / name).write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(RaysimError):
        resume(half_done)


@pytest.mark.parametrize("name", ["server.safetensors", "layout.json", "manifest.json"])
def test_a_pickle_in_a_checkpoint_is_refused(half_done: RunDirectory, mark: Path, name: str) -> None:
    content = pickle.dumps(Trap(mark))
    if name == "manifest.json":
        (CheckpointFolder(half_done).path(2) / name).write_bytes(content)
    else:
        crafted_checkpoint(half_done, name, content)
    with pytest.raises(RunError):
        resume(half_done)


def test_a_configuration_cannot_name_a_call(tmp_path: Path, mark: Path) -> None:
    (tmp_path / "c.yaml").write_text(f"name: !!python/object/apply:pathlib.Path.touch [{mark}]")
    with pytest.raises(RaysimError, match="not valid YAML"):
        Experiment.from_yaml(tmp_path / "c.yaml")
    with pytest.raises(RaysimError, match="not valid YAML"):
        Experiment().updated([f"name=!!python/object/apply:os.system ['touch {mark}']"])


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A copy of a shard store."""
    from raysim.execution.preparation.prepare import prepare_job

    spec = prepare_job(digits(tmp_path)).job.federation
    return Path(shutil.copytree(spec.path, tmp_path / "store"))


@pytest.mark.parametrize("name", ["manifest.json", "train.arrow", "index.arrow"])
def test_a_pickle_in_a_store_is_refused(store: Path, mark: Path, name: str) -> None:
    trap, size = pickle.dumps(Trap(mark)), (store / name).stat().st_size
    (store / name).write_bytes(trap + bytes(size - len(trap)))
    with pytest.raises(DataError):
        ArrowFederation(store).verify()


def test_an_arrow_type_that_carries_a_pickle_is_not_built(store: Path, mark: Path) -> None:
    metadata = {
        "ARROW:extension:name": "arrow.py_extension_type",
        "ARROW:extension:metadata": pickle.dumps(Trap(mark)),
    }
    schema = pa.schema([pa.field("x", pa.int64(), metadata=metadata)])
    with pa.OSFile(str(store / "train.arrow"), "wb") as sink, pa.ipc.new_file(sink, schema) as writer:
        writer.write_batch(pa.record_batch([pa.array([1])], schema=schema))
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["files"]["train.arrow"]["bytes"] = (store / "train.arrow").stat().st_size
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="does not have the columns"):
        ArrowFederation(store)


def test_pickles_in_data_and_weights_of_ones_own_are_refused(tmp_path: Path, mark: Path) -> None:
    np.savez(tmp_path / "data.npz", x=np.array([Trap(mark)], dtype=object), y=np.zeros(1))
    with pytest.raises(DataError, match="plain arrays"):
        Simulation(digits(tmp_path, f"data.source={{name: npz, path: {tmp_path / 'data.npz'}}}"))
    (tmp_path / "weights.pt").write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(RaysimError, match="cannot be read as safetensors"):
        Simulation(digits(tmp_path, f"model.weights={tmp_path / 'weights.pt'}"))


@pytest.mark.parametrize("name", ["../outside.arrow", "/outside.arrow", "sub/train.arrow", "other.arrow"])
def test_a_stores_manifest_names_no_other_files(store: Path, name: str) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["files"][name] = manifest["files"]["train.arrow"]
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match="is no file of a store"):
        ArrowFederation(store)


def test_objects_are_no_type_of_a_column(store: Path) -> None:
    manifest = json.loads((store / "manifest.json").read_text())
    manifest["files"]["train.arrow"]["columns"]["x"]["dtype"] = "object"
    (store / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(DataError, match=r"manifest.json: damaged"):
        ArrowFederation(store)


def test_links_that_lead_out_of_a_store_or_a_checkpoint_are_not_followed(
    store: Path, half_done: RunDirectory, tmp_path: Path
) -> None:
    shutil.move(store / "train.arrow", tmp_path / "elsewhere.arrow")
    (store / "train.arrow").symlink_to(tmp_path / "elsewhere.arrow")
    with pytest.raises(DataError, match=r"train.arrow: is a link that leads out of the store"):
        ArrowFederation(store)
    vectors = CheckpointFolder(half_done).path(2) / "server.safetensors"
    shutil.move(vectors, tmp_path / "elsewhere.safetensors")
    vectors.symlink_to(tmp_path / "elsewhere.safetensors")
    with pytest.raises(RunError, match=r"server\.safetensors is missing"):
        resume(half_done)


def test_a_file_that_no_manifest_names_is_not_read(half_done: RunDirectory) -> None:
    folder = CheckpointFolder(half_done).path(2)
    manifest = json.loads((folder / "manifest.json").read_text())
    del manifest["files"]["server.safetensors"]
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(RunError, match=r"server\.safetensors is not in its manifest"):
        resume(half_done)


def test_tables_of_pickles_are_refused_by_readers(half_done: RunDirectory, mark: Path) -> None:
    for path in (half_done.rounds, half_done.clients):
        path.write_bytes(pickle.dumps(Trap(mark)))
    with pytest.raises(RunError, match="damaged, or not a table"):
        read_rounds(half_done)
    with pytest.raises(RunError, match="damaged, or not a table"):
        list(read_clients(half_done))


def test_of_rays_words_on_authentication_only_the_advice_to_turn_it_off_is_held_back(
    caplog: pytest.LogCaptureFixture,
) -> None:
    setup = pytest.importorskip("ray._private.authentication.authentication_token_setup")
    from raysim.cluster.runtime import _without_advice

    setup.logger.addHandler(caplog.handler)
    try:
        with _without_advice():
            setup._warn_token_auth_enabled()
            setup._warn_token_auth_disabled()
        said = {record.getMessage().partition(" for")[0] for record in caplog.records}
        assert said == {"Token authentication is disabled"}
        setup._warn_token_auth_enabled()
        assert caplog.records[-1].getMessage().startswith("Token authentication is enabled for this Ray cluster. Set")
    finally:
        setup.logger.removeHandler(caplog.handler)


def test_authentication_is_never_turned_off_by_the_package() -> None:
    reading = [path for path in PACKAGE.rglob("*.py") if "RAY_AUTH_MODE" in path.read_text(encoding="utf-8")]
    assert [path.name for path in reading] == ["token.py"]
    uses = [line.strip() for line in reading[0].read_text(encoding="utf-8").splitlines() if "RAY_AUTH_MODE" in line]
    assert len(uses) == 1
    assert 'os.environ.get("RAY_AUTH_MODE", "token").lower() != "token"' in uses[0]
