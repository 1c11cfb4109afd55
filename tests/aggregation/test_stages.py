"""Stages by themselves: what they do to rows and means, and which chains are refused."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch

from raysim.aggregation import Aggregation, Field, MeanContext, SendContext, Weighting, build_aggregation
from raysim.aggregation.norms import norms
from raysim.config.server import AggregationConfig, SamplesWeightsConfig
from raysim.errors import ConfigError, UserCodeError

FIELDS = (Field("update", 96), Field("control", 64), Field("share", 1, summed=True, constant=True))
COLUMNS: Any = SimpleNamespace(size=96, trainable=64, values=lambda size: {96: 90, 64: 60}.get(size, size))


def chain(*stages: Any, **more: Any) -> Aggregation:
    config = AggregationConfig.model_validate({"stages": list(stages), "weights": "uniform", **more})
    return build_aggregation(config, FIELDS, COLUMNS)


def records(count: int = 5) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(1)
    scale = torch.tensor([0.01, 0.1, 1.0, 10.0, 100.0])[:count, None]
    drawn = {field.name: torch.randn(count, field.size, generator=generator) * scale for field in FIELDS}
    return {**drawn, "share": torch.full((count, 1), 0.5)}


def through(aggregation: Aggregation, sent: Any) -> dict[str, torch.Tensor]:
    count = len(sent["update"])
    found, _ = aggregation.client(sent, SendContext(0, 1, np.arange(count), np.ones(count, dtype=np.int64)))
    return dict(found)


def test_a_clip_bounds_the_norm_of_all_fields_that_depend_on_data_together() -> None:
    before, clip = records(), chain({"name": "clip", "max_norm": 3.0})
    after = through(clip, records())
    plain = np.sqrt(
        sum(before[name].double().numpy() ** 2 @ np.ones(before[name].shape[1]) for name in ("update", "control"))
    )
    found = norms(after, ["update", "control"])
    np.testing.assert_allclose(found, np.minimum(plain, 3.0), rtol=1e-5)
    assert (found <= 3.0).all()
    assert after["clip.share"].flatten().tolist() == [float(norm > 3) for norm in plain]
    assert torch.equal(after["share"], before["share"])
    kept = plain <= 3
    assert torch.equal(after["update"][kept], before["update"][kept])


@pytest.mark.parametrize("stage", [{"name": "clip", "max_norm": 3.0}, {"name": "zero", "max_norm": 3.0}, "measure"])
def test_a_row_is_the_same_alone_and_among_others(stage: Any) -> None:
    together = through(chain(stage), records())
    for i in range(5):
        alone = through(chain(stage), {name: rows[i : i + 1].clone() for name, rows in records().items()})
        for name, rows in alone.items():
            assert torch.equal(rows[0], together[name][i]), name


def test_values_that_are_not_finite_and_long_records_are_set_to_zero() -> None:
    sent = records()
    sent["control"][1, 3] = torch.nan
    after = through(chain({"name": "zero", "max_norm": 200.0}), sent)
    assert not after["update"][[1, 4]].any()
    assert not after["control"][[1, 4]].any()
    assert torch.equal(after["update"][[0, 2, 3]], records()["update"][[0, 2, 3]])
    assert after["zero.share"].flatten().tolist() == [0, 1, 0, 0, 1]
    assert after["share"].all()


def test_fields_that_share_memory_are_changed_apart() -> None:
    rows = records()
    rows["control"] = rows["update"][:, :64]
    expected = {name: one.clone() for name, one in rows.items()}
    after = through(chain({"name": "clip", "max_norm": 3.0}), rows)
    ratio = after["control"][4] / expected["control"][4]
    torch.testing.assert_close(ratio, after["update"][4, :64] / expected["update"][4, :64])


def test_the_mean_goes_back_through_the_stages_and_each_takes_its_own_fields_away() -> None:
    stages = chain("measure", {"name": "clip", "max_norm": 3.0}, "measure")
    assert [stage.label for stage in stages.stages] == ["measure", "clip", "measure2"]
    assert not stages.columnwise
    mean = {field.name: np.full(field.size, 0.5) for field in stages.rule.fields}
    found, state, metrics = stages.server(mean, {}, MeanContext(0, 1, (), slice(0, 96), 3, 3))
    assert set(found) == {"update", "control", "share"}
    assert set(metrics) == set(stages.metrics) == {
        "stages/measure/norm", "stages/measure/mean_norm", "stages/clip/share",
        "stages/measure2/norm", "stages/measure2/mean_norm",
    }  # fmt: skip
    assert metrics["stages/measure/mean_norm"] == pytest.approx(np.sqrt(160 * 0.25))
    assert not state


def test_a_record_that_no_stage_encodes_takes_its_values_without_padding() -> None:
    assert chain().dense(1, np.arange(2)).tolist() == 2 * [4 * (90 + 60 + 1)]
    assert chain("measure").dense(1, np.arange(2)).tolist() == 2 * [4 * (90 + 60 + 1 + 1)]


NOISE, CLIP = "prototype_stages:Noise", {"name": "clip", "max_norm": 1.0}


@pytest.mark.parametrize(
    ("stages", "more", "said"),
    [
        ([NOISE], {}, r"aggregation.stages\[0\]: Noise needs records of bounded norm .*\{name: clip, max_norm: 1.0\}"),
        ([NOISE, CLIP], {}, r"aggregation.stages\[0\]: Noise needs records of bounded norm"),
        (
            [CLIP, NOISE, "prototype_stages:TopK"],
            {},
            r"stages\[1\]: Noise needs .* none that unbounds them",
        ),
        ([{"name": "zero"}, NOISE], {}, r"aggregation.stages\[1\]: Noise needs records of bounded norm"),
        ([CLIP, NOISE], {"weights": "samples"}, r"stages\[1\]: Noise needs clients of equal weight; set .* uniform"),
        (
            ["prototype_stages:OnlySums"],
            {"weights": "learned"},
            r"stages\[0\]: OnlySums works on the road sum, .* rows",
        ),
        (["prototype_stages:NOT_A_STAGE"], {}, r"stages\[0\].name: .* is not a subclass of .*UpdateStage"),
        ([{"name": NOISE, "args": {"sigma": 1}}], {}, r"stages\[0\].args: prototype_stages:Noise: .*'sigma'"),
    ],
)
def test_a_chain_that_lacks_something_is_refused_in_one_line(stages: Any, more: Any, said: str) -> None:
    with pytest.raises((ConfigError, UserCodeError), match=said) as caught:
        chain(*stages, **more)
    assert "\n" not in str(caught.value)


def test_chains_that_have_what_they_need_are_taken() -> None:
    for stages in ([CLIP, NOISE], [{"name": "zero", "max_norm": 5.0}, NOISE], ["prototype_stages:TopK", CLIP, NOISE]):
        assert chain(*stages).every_round


def test_a_clip_of_order_1_bounds_the_sum_of_magnitudes() -> None:
    before = records()
    after = through(chain({"name": "clip", "max_norm": 20.0, "order": 1}), records())
    plain = sum(before[name].double().abs().sum(1).numpy() for name in ("update", "control"))
    found = norms(after, ["update", "control"], order=1)
    np.testing.assert_allclose(found, np.minimum(plain, 20.0), rtol=1e-5)
    assert (found <= 20.0).all()


def test_a_stage_that_gives_bounded_records_must_say_their_bound() -> None:
    with pytest.raises(ConfigError, match=r"stages\[0\]: BoundedSomehow gives bounded records, .* override bound"):
        chain("prototype_stages:BoundedSomehow")


def test_weights_of_capped_samples_are_bounded() -> None:
    capped = {"name": "samples", "cap": 5}
    assert chain(CLIP, "prototype_stages:CappedNoise", weights=capped).every_round
    with pytest.raises(ConfigError, match=r"stages\[1\]: CappedNoise needs .* \{name: samples, cap: …\}"):
        chain(CLIP, "prototype_stages:CappedNoise", weights="samples")
    found = Weighting(SamplesWeightsConfig(cap=5)).raw(np.arange(4), np.array([0, 1, 5, 50]))
    assert found.tolist() == [0, 0.2, 1, 1]
