"""What attacks and audits found, kept beside the run for its report."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

from raysim.attacking import AttackedModel, AttackedRound, InvertedUpdate, shown_images
from raysim.auditing import Neighbours
from raysim.privacy.canaries import CanaryAudit
from raysim.tracking import Evidence, RunDirectory, write_evidence

Found = InvertedUpdate | AttackedModel | AttackedRound | CanaryAudit | Neighbours


def keep_evidence(run: str | Path, found: Found) -> Path:
    """Keep what an attack or an audit of a run found; `raysim report` shows it. Returns the JSON file.

    The folder `attacks` of the run then has images of its clients' samples, where those were reconstructed.

    Raises:
        RunError: it is no run.
        StorageError: the disk refuses.
    """
    return write_evidence(RunDirectory.open(run), evidence_of(found))


def evidence_of(found: Found) -> Evidence:
    """What was found, and what the attacker had, as it is kept."""
    if isinstance(found, InvertedUpdate):
        name = f"inversion-{found.sees}-{found.client}-{found.round}-{found.method}"
        saw = {
            "message": f"what client {found.client} sent in round {found.round}, as the server receives it",
            "model": f"the model before and after round {found.round}",
        }[found.sees]
        return Evidence("inversion", name, saw, found.facts(), shown_images(found))
    if isinstance(found, AttackedModel):
        saw = f"the model after round {found.round}, and the loss of each sample under it"
        return Evidence("membership", "membership", saw, found.facts())
    if isinstance(found, AttackedRound):
        tried = found.members + found.others
        saw = f"the model before and after round {found.round}, and the samples of {tried} clients"
        return Evidence("participation", f"participation-{found.round}", saw, found.facts())
    if isinstance(found, Neighbours):
        saw = f"the last model of runs with and without client {found.client}, and the client's samples"
        return Evidence("neighbours", f"neighbours-{found.client}", saw, found.facts())
    saw = "the first and the last model, and the direction of each canary"
    return Evidence("canaries", "canaries", saw, asdict(found))
