"""The noise that an epsilon takes, and an audit that finds noise that is wrongly halved."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from typer.testing import CliRunner

from raysim import Experiment
from raysim.aggregation import Aggregation
from raysim.cli import app
from raysim.config.privacy import PrivacyConfig
from raysim.errors import ConfigError
from raysim.execution.preparation.prepare import prepare_job
from raysim.privacy import Mechanism, PrivacyAccount, Sampling, account_for, central, gaussian_epsilon
from raysim.privacy.audit import MechanismAudit, audit_mechanism, lower_bound
from raysim.privacy.calibration import calibrated

WEIGHT = 4.0
SETTING: Mapping[str, Any] = {
    "cohort": 4,
    "selection": "poisson",
    "data": {"source": "breast_cancer", "partition": {"name": "iid", "clients": 40}},
    "training": {"engine": "sequential"},
    "execution": {"executor": "inprocess"},
}


def chain(*stages: Mapping[str, Any]) -> Aggregation:
    values = {**SETTING, "aggregation": {"weights": "uniform", "stages": stages}}
    return prepare_job(Experiment.parse(values)).aggregation


CLIP = {"name": "clip", "max_norm": 0.5}
NOISE = {"name": "gaussian", "noise_multiplier": 2.5}


@pytest.fixture(scope="module")
def gaussian() -> Aggregation:
    return chain(CLIP, NOISE)


def audited(aggregation: Aggregation, trials: int = 4000) -> MechanismAudit:
    return audit_mechanism(aggregation, expected_weight=WEIGHT, delta=1e-5, trials=trials)


def test_an_audit_finds_the_noise_that_is_claimed(gaussian: Aggregation) -> None:
    found = audited(gaussian)
    assert found.holds
    assert found.deviation == pytest.approx(2.5, rel=0.1)
    assert [one.delta for one in found.findings] == [1e-5, 0.01]
    for one in found.findings:
        assert one.claimed == pytest.approx(gaussian_epsilon(1 / 2.5, one.delta))
        assert 0 < one.lower < one.claimed
        assert one.claimed * 0.8 < one.lower_if_gaussian < one.claimed


def test_an_audit_breaks_where_noise_is_wrongly_halved(gaussian: Aggregation, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(central, "remaining", lambda multiplier, spent: multiplier / 2)
    found = audited(gaussian)
    assert not found.holds
    small, telling = found.findings
    assert telling.lower > telling.claimed  # by counting alone
    assert small.lower_if_gaussian > 1.5 * small.claimed


def test_an_audit_of_a_chain_with_an_adaptive_clip_counts_both_releases() -> None:
    aggregation = chain({"name": "adaptive_clip", "initial_norm": 0.2, "fraction_noise": 0.5}, NOISE)
    found = audited(aggregation, 2000)
    assert found.holds
    assert found.deviation > 2.5  # of the update alone, which gets more than the noise of both


def test_noise_of_each_client_is_audited_on_its_message() -> None:
    class Own(type(chain(CLIP).stages[0])):  # type: ignore[misc]
        mechanism = Mechanism("gaussian", 2.0, "each_client")

        def client(self, sent: Any, ctx: Any) -> Any:
            found = super().client(sent, ctx)
            noise = torch.randn(found["update"].shape, generator=torch.Generator().manual_seed(ctx.seed))
            return {**found, "update": found["update"] + 2.0 * 0.5 * noise}

    aggregation = chain(CLIP)
    stage = Own(aggregation.stages[0].columns, 0.5)
    stage.label = "clip"
    found = audited(replace(aggregation, stages=(stage,)), 2000)
    assert found.holds
    assert found.findings[0].claimed == pytest.approx(gaussian_epsilon(2 / 2.0, 1e-5))
    assert found.deviation == pytest.approx(2.0, rel=0.1)


def test_what_cannot_be_audited_is_said() -> None:
    with pytest.raises(ConfigError, match="no stage adds noise"):
        audited(chain(CLIP))


def test_a_bound_is_that_of_exact_intervals() -> None:
    there, not_there = np.repeat([1.0, 0.0], 1000), np.zeros(2000)
    there = np.where(np.arange(2000) % 2, 1.0, 0.0)
    low, high = 0.474377, 0.0024563  # Clopper & Pearson of 750 and of 0 in 1,500, at 2.5 %
    assert lower_bound(there, not_there, 0.0) == pytest.approx(math.log(low / high), rel=1e-3)
    assert lower_bound(not_there, not_there, 0.0) == 0.0


@pytest.mark.parametrize("sampler", ["poisson", "fixed_size", "round_robin"])
def test_calibrated_noise_is_the_least_that_is_enough(sampler: str) -> None:
    account = account_for([Mechanism("gaussian", 1.0)], Sampling(sampler, 100, 10), PrivacyConfig())  # type: ignore[arg-type]
    assert isinstance(account, PrivacyAccount)
    found = calibrated(account, 3.0, 20)
    assert 3.0 * 0.99 < found.epsilon(20) <= 3.0


def test_noise_of_several_stages_is_calibrated_by_one_factor() -> None:
    both = [Mechanism("gaussian", 1.0), Mechanism("gaussian", 3.0)]
    account = account_for(both, Sampling("everyone", 100, 100), PrivacyConfig())
    assert isinstance(account, PrivacyAccount)
    one, other = calibrated(account, 1.0, 5).mechanisms
    assert other.noise_multiplier == pytest.approx(3 * one.noise_multiplier)


@pytest.fixture
def private(tmp_path: Path) -> str:
    values = {**SETTING, "rounds": 5, "aggregation": {"weights": "uniform", "stages": [CLIP, NOISE]}}
    return Experiment.parse(values).to_yaml(tmp_path / "private.yaml") and str(tmp_path / "private.yaml")


Run = Callable[..., Any]


@pytest.fixture
def raysim() -> Run:
    def run(*words: str) -> Any:
        return CliRunner().invoke(app, ["privacy", *words])

    return run


def test_the_commands_print_facts_as_json(raysim: Run, private: str) -> None:
    curve = json.loads(raysim("curve", private, "--json").stdout)
    assert curve["curve"]["rounds"] == [1, 2, 3, 4, 5]
    assert curve["curve"]["epsilon"][-1] == curve["epsilon"]
    wanted = curve["epsilon"] / 2
    found = json.loads(raysim("calibrate", private, "--epsilon", str(wanted), "--json").stdout)
    assert wanted * 0.99 < found["epsilon"] <= wanted
    assert found["noise_multipliers"][0] > 2.5
    audit = json.loads(raysim("audit", private, "--trials", "200", "--json").stdout)
    assert audit["holds"]
    assert audit["trials"] == 200
    assert audit["findings"][0]["claimed"] > curve["curve"]["epsilon"][0]


def test_an_audit_that_finds_too_little_noise_exits_with_1(
    raysim: Run, private: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(central, "remaining", lambda multiplier, spent: multiplier / 4)
    result = raysim("audit", private, "--trials", "500")
    assert result.exit_code == 1
    assert "there is less noise than is claimed" in result.stdout


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (["curve"], "no CONFIG given, which --noise-multiplier, --population, --cohort could stand in place of"),
        (["curve", "--noise-multiplier", "1", "--population", "4", "--cohort", "9"], "--cohort: 9 is more than"),
        (["curve", "quickstart"], "quickstart: no stage of aggregation.stages adds noise"),
        (["calibrate", "quickstart", "--delta", "1e-5"], "--delta: CONFIG says it; change it by KEY=VALUE"),
        (["audit", "quickstart"], "aggregation.stages: no stage adds noise, so that there is nothing to audit"),
    ],
)
def test_what_a_command_cannot_do_is_one_line(raysim: Run, words: Sequence[str], line: str) -> None:
    result = raysim(*words)
    assert result.exit_code == 2
    assert line in result.stderr
