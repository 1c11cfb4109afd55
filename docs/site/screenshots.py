"""Screenshots of the live page, a report, a comparison and a study: `python docs/site/screenshots.py` (some minutes).

Writes docs/images/page-*.png at 1280 and 390 pixels, or into a folder that is given. Needs Chromium: `apt-get install
chromium`. The run on the live page trains on Ray, and one of its actors is killed, so that there is a fault to be seen.
"""

from __future__ import annotations

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from urllib.parse import quote

from browser import Browser
from PIL import Image

import raysim
from raysim.tracking import RunDirectory, read_rounds

IMAGES = Path(__file__).resolve().parents[1] / "images"
SIZES = ((1280, 2000), (390, 1900))
COLORS, RARE = 256, 96
RAYSIM = [sys.executable, "-c", "from raysim.cli import main; main()"]
SHORT = ["execution.executor=inprocess", "tracking.report=false"]
LIVE = [
    *("rounds=2000", "cohort=24", "data.partition.clients=50", "data.partition.min_size=5"),
    *("execution.actors=4", "client.schedule=constant"),
]
"""What the run on the live page has, beside the quickstart."""


def main() -> None:
    """Make the runs, serve them and take the pictures."""
    images = Path(sys.argv[1]).resolve() if len(sys.argv) > 1 else IMAGES
    runs = Path("runs")
    with tempfile.TemporaryDirectory() as folder, contextlib.chdir(folder):
        names = [_finished(runs, algorithm, seed) for algorithm in ("fedavg", "scaffold") for seed in (0, 1, 2)]
        study = ["tuning.trials=24", "tracking.report=false", "tuning.confirm.seeds=3"]
        subprocess.run([*RAYSIM, "tune", "tune_lr", *study, "--directory", runs / "tuned", "--quiet"], check=True)
        chosen = "&".join(f"run={quote(name)}" for name in names)
        with raysim.serve(runs, port=0) as page, running(runs / "live") as driver, Browser() as browser:
            wait_for_round(runs / "live", 12)
            kill_an_actor(driver.pid)
            wait_for_round(runs / "live", 40)
            take(browser, f"{page.url}runs/live", images / "page-live")
            take(browser, f"{page.url}reports/{names[0]}", images / "page-report")
            take(browser, f"{page.url}compare?{chosen}", images / "page-comparison")
            take(browser, f"{page.url}studies/tuned", images / "page-study")


def _finished(runs: Path, algorithm: str, seed: int) -> str:
    name = f"{algorithm}-{seed}"
    setting = [f"algorithm={algorithm}", f"seed={seed}", f"name={algorithm}", *SHORT]
    subprocess.run([*RAYSIM, "run", "quickstart", *setting, "--directory", runs / name, "--quiet"], check=True)
    return name


class running(subprocess.Popen[bytes]):
    """A run that goes on until the block ends."""

    def __init__(self, folder: Path) -> None:
        command = [*RAYSIM, "run", "quickstart", *LIVE, "--directory", str(folder), "--quiet", "--no-report"]
        super().__init__(command, stdout=subprocess.DEVNULL)

    def __exit__(self, *error: object) -> None:
        self.send_signal(signal.SIGINT)
        self.wait()


def wait_for_round(run: Path, number: int) -> None:
    """Wait until the run has committed this number of rounds."""
    while not (run / "config.yaml").is_file() or read_rounds(RunDirectory(run)).num_rows < number:
        time.sleep(0.2)


def kill_an_actor(driver: int) -> None:
    """Kill one of the run's actors, as a lack of memory would."""
    parents, actors = {}, []
    for entry in Path("/proc").iterdir():
        if entry.name.isdecimal():
            try:
                parents[int(entry.name)] = int((entry / "stat").read_text().rpartition(")")[2].split()[1])
                if (entry / "cmdline").read_bytes().startswith(b"ray::ClientActor"):
                    actors.append(int(entry.name))
            except OSError:  # it has just ended
                continue
    own = [one for one in actors if driver in _ancestors(one, parents)]
    os.kill(own[0], signal.SIGKILL)


def _ancestors(process: int, parents: dict[int, int]) -> list[int]:
    found = [process]
    while found[-1] in parents:
        found.append(parents[found[-1]])
    return found


def take(browser: Browser, url: str, stem: Path) -> None:
    """A page at both widths, with a palette."""
    for width, height in SIZES:
        file = stem.with_name(f"{stem.name}-{width}.png")
        browser.open(url, width, height)
        browser.screenshot(file)
        with Image.open(file) as image:
            small = with_palette(image.convert("RGB"))
        small.save(file, optimize=True)
        print(f"{file} {file.stat().st_size / 1000:.0f} kB")


def with_palette(image: Image.Image) -> Image.Image:
    """In the picture's most frequent colours, those of the page and of its curves to the bit, and in rare ones, too."""
    counts = sorted(image.getcolors(image.width * image.height) or [], reverse=True)[: COLORS - RARE]
    chosen = [part for _, color in counts for part in color]
    rare = image.quantize(RARE, method=Image.Quantize.MAXCOVERAGE).getpalette() or []
    palette = Image.new("P", (1, 1))
    palette.putpalette(chosen + rare[: 3 * RARE])
    return image.quantize(palette=palette, dither=Image.Dither.NONE)


if __name__ == "__main__":
    main()
