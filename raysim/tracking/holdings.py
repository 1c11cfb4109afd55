"""Who holds what, as the run found it: `holdings.json`."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass

import numpy as np

from raysim.config.parsing import parse_json
from raysim.data.federation import Federation
from raysim.data.summary import INSPECTED, LabelCounts, Summary, count_labels, describe
from raysim.errors import RunError
from raysim.files import storing, write_text
from raysim.tracking.directory import RunDirectory

CLIENTS, CLASSES = 200, 200
"""Clients whose labels are recorded where there are more, and classes up to which they are."""
MADE_UP = 40
"""Clients that are looked into where no label counts are stored: each one's samples have to be read."""


@dataclass(frozen=True, slots=True)
class Holdings:
    """The samples of a federation, in numbers.

    Attributes:
        summary: sizes and label skew.
        labels: of some clients, evenly spread over the population; None where samples have no class each, or there are
            many classes.
    """

    summary: Summary
    labels: LabelCounts | None


def write_holdings(run: RunDirectory, federation: Federation) -> None:
    """Record who holds what.

    Raises:
        DataError: a shard cannot be read.
        StorageError: the disk refuses.
    """
    stored = federation.histograms() is not None
    summary = describe(federation, INSPECTED if stored else MADE_UP)
    classes = federation.info.classes or 0
    labels = count_labels(federation, CLIENTS if stored else MADE_UP) if classes <= CLASSES else None
    values = {
        "summary": asdict(summary),
        "clients": None if labels is None else labels.clients.tolist(),
        "labels": None if labels is None else np.asarray(labels.counts).tolist(),
    }
    with storing(run.holdings):
        write_text(run.holdings, json.dumps(values) + "\n")


def read_holdings(run: RunDirectory) -> Holdings | None:
    """Who held what in a run; None where that was not recorded.

    Raises:
        RunError: the file is damaged.
    """
    try:
        values = parse_json(run.holdings.read_bytes())
        labels = None
        if values["clients"] is not None:
            clients, counts = (np.array(values[name], dtype=np.int64) for name in ("clients", "labels"))
            if counts.ndim != 2 or len(counts) != len(clients):
                raise ValueError("a client has no counts")
            labels = LabelCounts(clients, counts)
        return Holdings(Summary(**values["summary"]), labels)
    except FileNotFoundError:
        return None
    except (OSError, ValueError, TypeError, KeyError, OverflowError) as error:
        raise RunError(f"{run.holdings}: damaged ({type(error).__name__}: {error}); remove it") from None
