"""What a job says of itself, whatever of it has been built."""

from __future__ import annotations

from pathlib import Path

import pytest
from transformer_models import federation, info_of

from raysim.execution.preparation.prepare import prepare_job
from raysim.models import build_model
from raysim.rounds.job import TRANSFORMER_LIBRARIES


def test_a_transformer_that_is_handed_over_has_its_libraries_recorded_whatever_has_been_built(tmp_path: Path) -> None:
    pytest.importorskip("peft")
    experiment, data = federation(tmp_path, "gpt2")
    info = info_of("causal_lm")
    module = build_model(experiment.model, info, seed=0)
    plain = experiment.updated(["model=softmax"])  # the module takes its place
    job = prepare_job(plain, model=module, data=data).job
    assert job.libraries == TRANSFORMER_LIBRARIES
    job.blueprint.release()
    assert job.libraries == TRANSFORMER_LIBRARIES
