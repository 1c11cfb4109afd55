"""Compiled rows: the same result, the same bits for any number of rows, and a clear error without a compiler."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from federations import digits, sha256

from raysim import Simulation
from raysim.config import Experiment
from raysim.errors import ConfigError
from raysim.execution.preparation import engine_choice
from raysim.training import captured

pytestmark = pytest.mark.skipif(not engine_choice.has_compiler(), reason="needs a C++ compiler")


def trained(experiment: Experiment) -> tuple[str, torch.Tensor, Experiment]:
    with Simulation(experiment) as simulation:
        assert "only the gradient" not in simulation._prepared.engine.reason
        simulation.run()
        module = simulation.model()
        vector = torch.cat([parameter.detach().flatten() for parameter in module.parameters()])
        return sha256(module), vector, simulation.experiment


def as_traced(graph: torch.fx.GraphModule, examples: object, **given: object) -> Callable[[list[object]], object]:
    """Code that computes the graph node by node, in place of torch's compiler."""

    def code(arguments: list[object]) -> object:
        return graph(*arguments)

    code._boxed_call = True  # type: ignore[attr-defined]  # it takes its arguments in one list
    return code


ALGORITHMS = {
    "fedavg": ("algorithm=fedavg", "rounds=1", "model={name: mlp_lora, hidden: [16]}"),
    "scaffold": ("algorithm=scaffold", "rounds=3"),
    "feddyn": ("algorithm=feddyn", "rounds=3"),
    "mimelite": ("algorithm=mimelite", "rounds=3"),
}
"""With frozen parameters, and with corrections that look at what the server sends and at what clients keep, of which
the first round has zeros."""


@pytest.mark.parametrize("wanted", ALGORITHMS.values(), ids=ALGORITHMS)
def test_compiled_rows_agree_with_one_client_at_a_time_and_k_decides_nothing(
    tmp_path: Path, wanted: tuple[str, ...]
) -> None:
    compiled = ("training.engine=rows", "training.compile=true")
    found, vector, resolved = trained(digits(tmp_path, *wanted, *compiled, "training.rows=4"))
    assert resolved.training.compile is True
    again = resolved.updated([f"tracking.directory={tmp_path}", "training.rows=2"])
    assert trained(again)[0] == found
    _, expected, _ = trained(digits(tmp_path, *wanted))
    assert (vector - expected).norm() <= 1e-5 * expected.norm()


def test_a_run_is_compiled_by_itself_after_others_in_a_process(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Torch remembers the sizes of an earlier model's code, and would make variables of them: before its compiler makes
    kernels of what it traced, which this test does without."""
    from torch._inductor import compile_fx

    monkeypatch.setattr(compile_fx, "compile_fx_inner", as_traced)
    monkeypatch.setattr(captured, "_known", {})  # the process keeps its codes for the same model
    run = ("rounds=2", "client.batch_size=20", "client.epochs=2", "cohort=5")
    for algorithm in ("fedprox", "fedavg"):
        compiled = digits(tmp_path, *run, f"algorithm={algorithm}", "training={engine: rows, rows: 3, compile: true}")
        _, vector, _ = trained(compiled)
    _, expected, _ = trained(digits(tmp_path, *run, f"algorithm={algorithm}"))
    assert (vector - expected).norm() <= 1e-5 * expected.norm()


@pytest.mark.ray
def test_compiled_rows_end_in_the_same_bits_on_actors_and_after_a_resume(tmp_path: Path, ray_session: object) -> None:
    compiled = ("training.engine=rows", "training.compile=true", "algorithm=scaffold")
    spread = digits(tmp_path, *compiled, "training.rows=2", "execution.executor=ray", "execution.actors=2")
    with Simulation(spread) as simulation:
        for committed in simulation:
            if committed.number == 2:
                middle = sha256(simulation.model())
        expected = sha256(simulation.model())
    with Simulation(digits(tmp_path, *compiled, "training.rows=4")) as simulation:
        for committed in simulation:
            if committed.number == 2:
                break
    with Simulation.resume(simulation.directory) as resumed:
        assert sha256(resumed.model()) == middle
        resumed.run()
        assert sha256(resumed.model()) == expected


def test_without_a_compiler_asking_for_it_is_an_error_and_auto_does_without(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    with pytest.raises(ConfigError, match=r"training\.compile: no C\+\+ compiler is found; install g\+\+"):
        Simulation(digits(tmp_path, "training.engine=rows", "training.compile=true"))
    monkeypatch.setattr(engine_choice, "WORTH_COMPILING", 0.0)
    with Simulation(digits(tmp_path, "training.engine=rows")) as simulation:
        assert simulation.experiment.training.compile is False


def test_auto_tries_to_compile_where_the_run_is_long_enough(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(engine_choice, "WORTH_COMPILING", 0.0)
    monkeypatch.setattr(engine_choice, "CLEARLY", 100.0)  # whatever a busy machine measures
    with Simulation(digits(tmp_path, "training.engine=auto", "rounds=1000", "training.rows=4")) as simulation:
        training = simulation.experiment.training
        assert (training.engine, training.compile, training.rows) == ("rows", True, 4)
        assert "ms in compiled rows" in simulation._prepared.engine.reason


def test_only_rows_can_be_compiled(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="compile needs the rows engine"):
        digits(tmp_path, "training.compile=true")
