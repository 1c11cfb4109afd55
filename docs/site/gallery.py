"""Runs bundled configurations and writes `gallery.md`: a card for each, with its curve as a picture.

    python docs/site/gallery.py                    runs those that have no card yet
    python docs/site/gallery.py quickstart llm/*   runs these again
    python docs/site/gallery.py --page             writes the page alone, from what was measured

Runs are in this process, on one thread, and ended by the clock after `--seconds`. What it came to stands in
docs/images/gallery/results.json. A configuration that needs what is not there gets a card that says so.
"""

from __future__ import annotations

import argparse
import fnmatch
import json
import tempfile
import textwrap
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch

from raysim import Experiment, RaysimError, Simulation
from raysim.config.bundled import bundled_configs, described
from raysim.tracking.past import past_run
from raysim.tracking.report.thumbnail import thumbnail
from raysim.tracking.units import duration, figure

PAGE = Path(__file__).parents[1] / "gallery.md"
PICTURES = PAGE.parent / "images" / "gallery"
RESULTS = PICTURES / "results.json"
LIMIT = 120.0
"""Seconds of a run by the clock."""
FAMILIES = {
    "": "Algorithms, data and engines",
    "llm": "Large models",
    "privacy": "Privacy",
    "systems": "Devices and virtual time",
    "wire": "Compression",
}
"""Titles of the folders that configurations are in."""
CHANGED = ("execution.executor=inprocess", "tracking.report=false", "tracking.observers=[]")

INTRODUCTION = """\
# Gallery

<!-- Written by docs/site/gallery.py from docs/images/gallery/results.json. Do not edit. -->

Every configuration that comes with raysim: what it shows, the command, the curve that it is judged by, and where that
ends. `raysim run NAME` runs it anywhere; its file is in `configs/`. `python docs/site/gallery.py` makes
the cards by runs in its own process, on one thread, which the clock ends where a card says so. Times are of the
processor, the data included; all cards together took {spent}.
"""

Results = dict[str, dict[str, Any]]


def measure(name: str, seconds: float, folder: Path) -> dict[str, Any]:
    """Run a configuration, draw its picture, and return what the card says."""
    place, began = folder / name.replace("/", "-"), time.process_time()
    try:
        with Simulation(
            Experiment.from_yaml(name, [*CHANGED, f"stop.seconds={seconds}"]), directory=place
        ) as simulation:
            simulation.run()
    except RaysimError as error:
        return {"needs": str(error).splitlines()[0], "seconds": time.process_time() - began}
    spent = time.process_time() - began
    run = past_run(place)
    table = run.table()
    values = table[run.metric] if run.metric is not None else np.zeros(0)
    measured = np.isfinite(values)
    picture = thumbnail(table["round"][measured].astype(float), values[measured], run.metric or "nothing measured")
    file = picture_of(name)
    file.parent.mkdir(parents=True, exist_ok=True)
    file.write_text(picture.text + "\n", encoding="utf-8")
    return {
        "metric": run.metric,
        "last": run.last,
        "best": run.best,
        "rounds": run.rounds,
        "planned": run.planned,
        "reason": run.reason,
        "seconds": spent,
    }


def picture_of(name: str) -> Path:
    """The picture of a card."""
    return PICTURES / f"{name}.svg"


def page(results: Mapping[str, Mapping[str, Any]]) -> str:
    """The whole page."""
    spent = duration(sum(one["seconds"] for one in results.values()))
    lines = [INTRODUCTION.format(spent=spent)]
    for family, title in FAMILIES.items():
        lines.append(f"## {title}\n")
        for name in sorted(results):
            if name.rpartition("/")[0] == family:
                lines += card(name, results[name])
    return "\n".join(lines).rstrip() + "\n"


def card(name: str, result: Mapping[str, Any]) -> Iterator[str]:
    """What it shows, its picture, the command, and what the run came to."""
    yield f"### {name}\n"
    yield f"{described(name)}.\n"
    verb = "tune" if name.rpartition("/")[2].startswith("tune_") else "run"
    if "needs" in result:
        needs = textwrap.shorten(result["needs"], 160, placeholder=" …")
        yield f"`raysim {verb} {name}`: not run for this page ({needs})\n"
        return
    metric = result["metric"] or "nothing measured"
    yield f"![{metric} over {result['rounds']} rounds](images/gallery/{name}.svg)\n"
    rounds = f"{result['rounds']} rounds"
    if result["planned"] is not None and result["rounds"] < result["planned"]:
        rounds = f"{result['rounds']} of {result['planned']} rounds ({result['reason']})"
    ends = "" if result["metric"] is None else f", {metric} **{figure(result['last'])}**"
    yield f"`raysim {verb} {name}`: {rounds}{ends}, {duration(result['seconds'])}\n"


def read_results() -> Results:
    """What was measured, by configuration; nothing of configurations that are gone."""
    found: Results = json.loads(RESULTS.read_text(encoding="utf-8")) if RESULTS.exists() else {}
    return {name: one for name, one in found.items() if name in bundled_configs()}


def write(results: Results) -> None:
    """Write what was measured, and the page."""
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(dict(sorted(results.items())), indent=1) + "\n", encoding="utf-8")
    PAGE.write_text(page(results), encoding="utf-8")


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("names", nargs="*", help="configurations, or patterns of them; by default those without a card")
    parser.add_argument("--seconds", type=float, default=LIMIT, help="of a run, by the clock")
    parser.add_argument("--page", action="store_true", help="write the page alone")
    given = parser.parse_args()
    results = read_results()
    wanted = [
        name
        for name in bundled_configs()
        if (any(fnmatch.fnmatch(name, one) for one in given.names) if given.names else name not in results)
    ]
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        for name in [] if given.page else wanted:
            found = measure(name, given.seconds, Path(folder))
            results = {**read_results(), name: found}
            write(results)
            print(name, found, flush=True)
    write(results)


if __name__ == "__main__":
    main()
