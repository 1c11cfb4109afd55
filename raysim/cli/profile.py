"""Where the time of a run's rounds went, as a table, and why it ran on this engine."""

from __future__ import annotations

from pathlib import Path

from raysim.cli import printing


def print_profile(run: Path) -> None:
    """Print seconds of every phase of a round and of what training goes into, over all rounds of a run directory, and
    why its engine was chosen."""
    from raysim.tracking import RunDirectory
    from raysim.tracking.report.recorded import read_run

    recorded = read_run(run)
    if not recorded.time > 0:
        return
    rows: list[tuple[str, str, str, str]] = []
    for phase, seconds in recorded.seconds.items():
        mine = [part for part in recorded.parts if part.startswith(f"{phase}/")]
        parts = {f"  {part.split('/')[1]}": recorded.parts[part] for part in mine}
        for name, spent in {phase: seconds, **parts}.items():
            if spent.any():
                total = float(spent.sum())
                each = f"{1e3 * total / recorded.rounds:.2f} ms"
                rows.append((name, f"{total:.2f} s", each, f"{100 * total / recorded.time:.1f} %"))
    rows.append(("all", f"{recorded.time:.2f} s", f"{1e3 * recorded.time / recorded.rounds:.2f} ms", "100.0 %"))
    printing.gap()
    printing.heading(f"Where the time went{' (rounds overlap: phases add up to more)' if recorded.overlaps else ''}")
    printing.table({"phase": "left", "in all": "right", "a round": "right", "share": "right"}, rows)
    if (engine := RunDirectory.open(run).read_environment().get("engine")) is not None:
        printing.facts([("engine", str(engine))])
