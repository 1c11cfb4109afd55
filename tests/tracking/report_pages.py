"""Reports of synthetic runs, and what a browser finds in them."""

from __future__ import annotations

from collections.abc import Sequence
from html.parser import HTMLParser
from pathlib import Path

from synthetic_runs import METRICS, make_clients, make_row

from raysim.tracking import EventLog, RunDirectory, RunTables

VOID = {"meta", "img", "source", "br"}


class Page(HTMLParser):
    """Checks that tags nest, and collects what a browser would load and show."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.open: list[str] = []
        self.loads: list[str] = []
        self.tags: list[str] = []
        self.words: list[str] = []
        self.feed(file.read_text(encoding="utf-8").replace("<wbr>", ""))  # where a word may be broken
        assert self.open == []
        self.text = " ".join(self.words)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        self.loads += [value or "" for name, value in attrs if name in ("src", "srcset", "href")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.words.append(data.strip())


def record(
    run: RunDirectory,
    rounds: int,
    *,
    metrics: Sequence[str] = METRICS,
    with_clients: bool = True,
    close: bool = True,
    reason: str | None = None,
) -> RunDirectory:
    """Fill a run; the last round drops a client if there is a reason."""
    tables = RunTables(run, metrics, clients=with_clients)
    with EventLog(run.log) as log:
        log.info("started")
        for round in range(1, rounds + 1):
            dropped = reason is not None and round == rounds
            row = make_row(round, dropped=int(dropped))
            shown = {name: value for name, value in row.metrics.items() if name in metrics}
            tables.append(
                make_row(round, metrics=shown, dropped=int(dropped)), make_clients(round, reason if dropped else None)
            )
            if dropped:
                log.warning("client dropped", round=round, reason=reason)
        if close:
            tables.close()
            log.info("finished", reason="all rounds are done")
    return run
