"""What attacks found is kept whole beside a run, and its report shows the numbers."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable
from dataclasses import replace
from math import exp
from pathlib import Path

import numpy as np
import pytest
from report_pages import Page, record

from raysim.config import Experiment
from raysim.errors import RunError
from raysim.privacy.attacks import advantage_bound
from raysim.tracking import Evidence, RunDirectory, read_evidence, write_evidence, write_report
from raysim.tracking.report.attacks import attacks
from raysim.tracking.report.markup import Html
from raysim.tracking.report.recorded import read_run
from raysim.tracking.report.style import Picture

IMAGES = {
    name: np.random.default_rng(at).integers(0, 256, (3, 8, 8), dtype=np.uint8)
    for at, name in enumerate(("original", "unprotected", "found"))
}
INVERSION = Evidence(
    "inversion", "inversion-message-7-2-cosine", "what client 7 sent in round 2, as the server receives it",
    {"client": 7, "round": 2, "method": "cosine", "reconstructed": 3, "psnr": [7.0, 8.5, float("inf")],
     "mean_error": 0.1184, "unprotected_error": 0.02078, "guess_error": 0.04674}, IMAGES,
)  # fmt: skip
MEMBERSHIP = Evidence(
    "membership", "membership", "the model after round 4, and the loss of each sample under it",
    {"round": 4, "auc": 0.6125, "auc_low": 0.5911, "auc_high": 0.6337, "advantage": 0.1817},
)  # fmt: skip
PRIVACY = {
    "epsilon": 3.5, "delta": 1e-5, "neighbours": "with or without one sample", "noise": ["Gaussian"],
    "protects": "samples", "sampling": {"text": "batches"}, "accountant": "pld", "rounds": 4, "assumptions": [],
}  # fmt: skip


def named(pictures: Iterable[Picture]) -> Html:
    """The pictures' names and notes, in place of the pictures."""
    return Html(" ".join(f"[{one.name}: {one.note}]" for one in pictures))


def test_what_was_found_is_read_back_as_it_was(run: RunDirectory) -> None:
    assert read_evidence(run) == ()
    for one in (MEMBERSHIP, INVERSION):
        write_evidence(run, one)
    first, second = read_evidence(run)
    assert (second.kind, second.name, second.saw, second.facts) == (
        "membership", "membership", MEMBERSHIP.saw, MEMBERSHIP.facts,
    )  # fmt: skip
    assert first.facts["psnr"] == [7.0, 8.5, None]  # infinity is no number in JSON
    assert list(first.images) == list(IMAGES)
    for name, images in IMAGES.items():
        assert (first.images[name] == images).all()


def test_an_attack_done_again_takes_the_place_of_the_one_before(run: RunDirectory) -> None:
    longer = Evidence("inversion", f"{INVERSION.name}-x", "", INVERSION.facts, IMAGES)
    write_evidence(run, longer)
    for images in (IMAGES, {**IMAGES, "found": IMAGES["original"]}):
        write_evidence(run, Evidence("inversion", INVERSION.name, "again", {}, images))
    found = read_evidence(run)
    assert [one.saw for one in found] == ["again", ""]
    assert (found[0].images["found"] == IMAGES["original"]).all()
    assert len(list(run.attacks.iterdir())) == 4
    assert not [one for one in run.attacks.iterdir() if one.name.endswith(".tmp")]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"kind": "guess"}, "'guess' is no kind of attack"),
        ({"images": "../../model.safetensors"}, "Invalid name"),
        ({"images": "gone.safetensors"}, "No such file"),
        ({"images": "text.safetensors"}, "text.safetensors: "),
        ({"images": "floats.safetensors"}, "expected images of one shape as bytes"),
        ({"facts": 3}, "TypeError"),
    ],
)
def test_damaged_files_are_named(run: RunDirectory, change: dict[str, object], words: str) -> None:
    from safetensors.numpy import save_file

    file = write_evidence(run, INVERSION)
    (run.attacks / "text.safetensors").write_text("no tensors")
    save_file({"original": np.zeros((1, 2, 2)), "found": np.zeros((1, 2, 2))}, run.attacks / "floats.safetensors")
    file.write_text(json.dumps(json.loads(file.read_text()) | change))
    with pytest.raises(RunError, match=re.escape(words)) as error:
        read_evidence(run)
    assert str(file) in str(error.value)


@pytest.mark.usefixtures("light_only")
def test_the_report_has_the_numbers_beside_epsilon_and_what_the_attacker_had(run: RunDirectory) -> None:
    record(run, 4, metrics=["train/loss", "privacy/example_epsilon"])
    run.write_environment({"privacy": PRIVACY})
    for one in (MEMBERSHIP, INVERSION):
        write_evidence(run, one)
    page = Page(write_report([run.path]))
    for word in (
        "Attacks", MEMBERSHIP.saw, "0.6125 (0.5911 to 0.6337)", "0.1817", "no epsilon", INVERSION.saw, "0.118",
        "0.0208", "0.0467",
    ):  # fmt: skip
        assert word in page.text, word
    assert (run.path / "figures" / f"attack-{INVERSION.name}.png").stat().st_size > 1000


def test_epsilon_is_that_of_the_attacked_round_and_bounds_the_advantage(
    run: RunDirectory,
) -> None:
    recorded = read_run(record(run, 4).path)
    columns = {**recorded.columns, "privacy/example_epsilon": np.array([1.0, 2.0, 3.0, 3.5])}
    recorded = replace(recorded, columns=columns, environment={"privacy": PRIVACY}, evidence=(INVERSION, MEMBERSHIP))
    text = attacks([recorded], named).text
    assert "3.5 (samples)" in text
    assert f"{advantage_bound(3.5, 1e-5):.4f}" in text
    assert (exp(3.5) - 1 + 2e-5) / (exp(3.5) + 1) == pytest.approx(advantage_bound(3.5, 1e-5))
    assert "an epsilon of 2 for its samples by then" in text
    assert attacks([replace(recorded, evidence=())], named).text == ""


@pytest.mark.usefixtures("light_only")
def test_runs_with_and_without_noise_are_told_apart_in_one_report(tmp_path: Path) -> None:
    paths = []
    for name in ("plain", "private"):
        run = RunDirectory.create_at(tmp_path / name, Experiment(rounds=2))
        record(run, 2, metrics=["train/loss"])
        write_evidence(run, INVERSION)
        write_evidence(run, MEMBERSHIP)
        paths.append(run.path)
    page = Page(write_report(paths))
    assert page.text.count(INVERSION.saw) >= 2
    assert "none: no noise" in page.text
    drawn_files = {file.name for file in (tmp_path / "report-figures").iterdir()}
    assert {f"attack-plain-{INVERSION.name}.png", f"attack-private-{INVERSION.name}.png"} <= drawn_files
