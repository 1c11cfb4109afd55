"""Bytes: what a federation would send, and what the simulator moved."""

from __future__ import annotations

from raysim.tracking.report.markup import Content, Html, element, section, table
from raysim.tracking.report.recorded import RecordedRun
from raysim.tracking.units import size

_WIRE = {
    "wire_up": "clients to the server",
    "wire_down": "the server to clients",
    "secagg/keys": "– of both: keys of secure aggregation",
    "secagg/shares": "– of both: encrypted shares",
    "secagg/unmasking": "– of both: shares that open the sum",
    "he/keys": "– of both: public keys",
    "he/decryption": "– of both: the sum to its key holder and back",
}
_MOVED = {
    "transport_up": "simulator: partial sums from workers",
    "transport_down": "simulator: models to workers",
    "transport_up_across": "– of these, sums between nodes",
    "transport_down_across": "– of these, models between nodes",
    "transport_state_across": "simulator: clients' states between nodes",
}


def bytes_sent(run: RecordedRun) -> Html:
    """The section; nothing where nothing was counted."""
    clients = run.total("cohort")
    rows: list[list[Content]] = []
    for name, words in {**_WIRE, **_MOVED}.items():
        if total := run.total(name):
            each = size(total / clients) if clients and name in _WIRE else "–"
            rows.append([words, size(total), size(total / max(run.rounds, 1)), each])
    if not rows:
        return Html("")
    text = "A federation would send the encoded messages; what the simulator moved is another matter."
    head: list[Content] = ["from, to", "in all", "a round", "a client and round"]
    return section("Bytes", table(head, rows), element("p", text, kind="faint"))
