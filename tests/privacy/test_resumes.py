"""Every mechanism that promises the same bits after a stop ends in those of a run that was not stopped."""

from __future__ import annotations

from pathlib import Path

import pytest
from federations import broken_off, digits, final_sha256

ROUND_ROBIN = "selection=round_robin cohort=2 aggregation.weights=uniform"
POISSON = "selection=poisson cohort=3 aggregation.weights=uniform"
SHARED = "cohort=4 aggregation.weights=uniform aggregation.protection={name:secagg,bits:20,clip:4.0}"
CLIP = "{name: clip, max_norm: 0.3}"
RUNS = {
    "gaussian, adaptive clip": (POISSON, "{name: adaptive_clip, fraction_noise: 0.6}, {name: gaussian, %s}"),
    "gaussian, clip by layer": (POISSON, "{name: layer_clip, max_norm: 0.3}, {name: gaussian, %s}"),
    "tree": (ROUND_ROBIN, CLIP + ", {name: tree, %s}"),
    "tree again": (ROUND_ROBIN, CLIP + ", {name: tree, %s, restart: 3}"),
    "bsr": (ROUND_ROBIN, CLIP + ", {name: bsr, %s, bands: 3}"),
    "blt": (ROUND_ROBIN, CLIP + ", {name: blt, %s, output_scale: [0.2, 0.3], buf_decay: [0.9, 0.4]}"),
    "local gaussian": (POISSON, CLIP + ", {name: local_gaussian, %s}"),
    "local laplace": (POISSON, "{name: clip, max_norm: 0.3, order: 1}, {name: local_laplace, %s}"),
    "discrete gaussian": (SHARED, CLIP + ", {name: discrete_gaussian, noise_multiplier: 0.01}"),
    "skellam": (SHARED, CLIP + ", {name: skellam, noise_multiplier: 0.01}"),
    "canaries": (POISSON, "{name: canaries, first: 1}, {name: clip, max_norm: 0.3}, {name: gaussian, %s}"),
    "samples": ("client.steps=2 client.batch_size=5 client.privacy.clip=0.5 client.privacy.noise_multiplier=2", ""),
    "secagg": ("aggregation.protection={name:secagg,threshold:0.51,dropout:{upload:0.1,unmask:0.05}} cohort=6", ""),
    "secagg_plus, few bits": ("aggregation.protection={name:secagg_plus,neighbours:2,bits:16,clip:0.5}", ""),
    "bfv": ("aggregation.protection={name:bfv} rounds=3 tracking.checkpoint_every=1", ""),
}


@pytest.mark.parametrize("name", RUNS)
def test_a_resume_ends_in_the_bits_of_one_run(tmp_path: Path, name: str) -> None:
    options, stages = RUNS[name]
    chain = stages.replace("%s", "noise_multiplier: 0.5")
    experiment = digits(tmp_path, *(one.replace(":", ": ") for one in options.split()), f"aggregation.stages=[{chain}]")
    assert broken_off(experiment, after=2)[1] == final_sha256(experiment)
