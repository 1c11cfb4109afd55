"""What every test may count on: quiet and deterministic libraries, a cache of its own, at most one Ray a session."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

# Before anything imports Ray: it reads these once, and a local start would write a token into the user's home.
os.environ["RAY_AUTH_MODE"] = "disabled"
os.environ["RAY_USAGE_STATS_ENABLED"] = "0"
os.environ["RAY_ENABLE_UV_RUN_RUNTIME_ENV"] = "0"
os.environ["RAY_ACCEL_ENV_VAR_OVERRIDE_ON_ZERO"] = "0"

sys.path.insert(0, str(Path(__file__).parent))  # modules that tests of several rooms share

import shares
from hypothesis import settings
from warm_workers import warm_workers

gc.disable()  # until all tests are collected
gc.set_threshold(10_000)

# A busy machine is no failure: only pytest's own timeout stops a slow example.
settings.register_profile("raysim", deadline=None)
settings.load_profile("raysim")


def pytest_configure(config: pytest.Config) -> None:
    """Let torch compute with one thread, wherever tests run; the process that only shares them out does without it."""
    if config.getoption("dist", "no") == "no":
        import torch

        torch.set_num_threads(1)


@pytest.hookimpl(tryfirst=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """A test that uses Ray is marked `ray`, so that `-m "not ray"` leaves it out."""
    for item in items:
        if "ray_session" in getattr(item, "fixturenames", ()):
            item.add_marker(pytest.mark.ray)
    if hasattr(config, "workerinput"):  # one of several processes
        items.sort(key=lambda item: shares.rank(item.nodeid))


@pytest.hookimpl(trylast=True)
def pytest_collection_finish(session: pytest.Session) -> None:
    """Modules and tests are there to the end: the garbage collector need not look at them again and again."""
    gc.freeze()
    gc.enable()


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Where tests run in several processes (`make test`), they are shared out in groups."""
    return shares.scheduler(config, log)


@pytest.fixture(scope="session", autouse=True)
def raysim_cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Shard stores of this session, instead of the user's."""
    cache = tmp_path_factory.mktemp("raysim-cache")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAYSIM_CACHE", str(cache))
        yield cache


@pytest.fixture(scope="session", autouse=True)
def _no_power_cut() -> Iterator[None]:
    """No test cuts the power: what is written need not have reached the disk, for which each run would wait often."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("os.fsync", lambda file: None)
        yield


@pytest.fixture(autouse=True)
def _restored_process() -> Iterator[None]:
    """Put back the working directory and the import path, which import strings extend."""
    directory, path = Path.cwd(), list(sys.path)
    yield
    os.chdir(directory)
    sys.path[:] = path


@pytest.fixture(scope="session")
def ray_session(raysim_cache: Path) -> Iterator[Any]:
    """One Ray with four CPUs for all tests that need it, started by the first of them."""
    pytest.importorskip("ray")
    from raysim.cluster.runtime import import_ray

    ray = import_ray()
    with warm_workers():
        ray.init(
            address="local",  # without it Ray would join whatever else runs on this machine
            num_cpus=4,
            object_store_memory=200 * 1024 * 1024,
            include_dashboard=False,
            log_to_driver=False,
            logging_level="warning",
        )
        yield ray
        ray.shutdown()
