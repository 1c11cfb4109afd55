"""What a notebook shows of a run: its name and state, the curve of the metric that it is judged by, what there is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from raysim.tracking.directory import RunDirectory
from raysim.tracking.reading import read_rounds
from raysim.tracking.report.markup import Content, element, join, table
from raysim.tracking.report.thumbnail import thumbnail


def glance(run: RunDirectory, title: str, metric: str | None, facts: Sequence[tuple[str, str]]) -> str:
    """HTML of a run, whatever state it is in.

    Args:
        run: whose rounds are read.
        title: above everything.
        metric: whose curve is drawn; None draws none.
        facts: names and values below it.
    """
    parts: list[Content] = [element("div", element("strong", title))]
    if metric is not None:
        rounds = read_rounds(run)
        values = rounds[metric].to_numpy().astype(np.float64)
        measured = np.isfinite(values)
        parts.append(thumbnail(rounds["round"].to_numpy()[measured].astype(np.float64), values[measured], metric))
    parts.append(table((), facts, text_columns=2))
    return element("div", join(parts)).text
