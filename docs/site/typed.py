"""Types the commands of the pages as they stand, each page in a fresh folder: `python docs/site/typed.py verify`.

Without names, all pages. A run's name with a date in it, or RUN, is the newest run of that name. Lines that need what
this machine may not have (a cluster, Docker, a download, data of your own) are named and left out. A line that shows an
error on its page has to end with it, every other one with exit code 0. The last line says how many did.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BLOCK = re.compile(r"^```(?:console|bash)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
ELSEWHERE = re.compile(
    r"^(docker|pip|make|ray|export|cp|git|jupyter) |address[= ]auto|s3://|/shared|HEAD|FOLDER|FILE|~/|mnist|flower:"
    r"|my_app|mine:|pairs\.jsonl|llama_7b|network:build|first\.yaml|first-2026|client_behave|client_device|--pdb"
    r"|raysim serve|benchmarks/|python -m raysim\.systems"
)
"""Lines that are not typed: they need what is not here, or do not end."""
RUN = re.compile(r"\bruns/(?:RUN\b|([\w-]+?)-20\d{6}-\d{6})")
UNTIL_CTRL_C = 20.0
"""Seconds after which a line is interrupted whose page shows ^C behind it."""


@dataclass(frozen=True, slots=True)
class Line:
    """A command, and what its page shows of it.

    Attributes:
        text: what is typed.
        error: the error line that it ends with; empty where it ends well.
        interrupted: whether Ctrl-C is pressed.
    """

    text: str
    error: str
    interrupted: bool


def lines(page: Path) -> Iterator[Line]:
    """The commands of a page; those of a loop are one."""
    for block in BLOCK.findall(page.read_text(encoding="utf-8")):
        shown = "$ " in block
        texts = block.splitlines()
        found: list[tuple[str, list[str]]] = []
        for text in texts:
            if text.startswith("$ ") or not shown:
                found.append((text.removeprefix("$ "), []))
            elif text.startswith("> "):
                found[-1] = (f"{found[-1][0]}\n{text[2:]}", [])
            else:
                found[-1][1].append(text)
        for command, after in found:
            errors = [one for one in after if one.startswith("error: ")]
            yield Line(command, errors[-1] if errors else "", "^C" in after)


def named(text: str, folder: Path) -> str:
    """With the newest run in place of a name that only the page's writer had."""

    def newest(found: re.Match[str]) -> str:
        runs = sorted((folder / "runs").glob(f"{found[1] or ''}*"), key=lambda one: one.stat().st_mtime)
        return f"runs/{runs[-1].name}" if runs else found[0]

    return RUN.sub(newest, text)


def typed(line: Line, folder: Path, limit: float) -> tuple[int, str]:
    """Exit code and output of a line in the folder."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    process = subprocess.Popen(
        ["bash", "-c", named(line.text, folder)],
        cwd=folder,
        env={**os.environ, "PATH": path},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        start_new_session=True,
    )
    try:
        if line.interrupted:
            time.sleep(UNTIL_CTRL_C)
            os.killpg(process.pid, signal.SIGINT)
        said = process.communicate(timeout=limit)[0]
    except subprocess.TimeoutExpired:
        os.killpg(process.pid, signal.SIGKILL)
        return 124, f"not done after {limit:g} s"
    return process.returncode, said


def as_shown(line: Line, code: int, said: str) -> bool:
    """Whether a line ended as its page says."""
    if line.interrupted:
        return code in (130, -signal.SIGINT) and "raysim resume" in said
    if line.error:
        return code == 2 and line.error in said.replace("\n", " ")
    return code == 0


def check(page: Path, limit: float) -> list[bool]:
    """Type a page's lines; whether each ended as shown."""
    found = []
    with tempfile.TemporaryDirectory() as place:
        folder = Path(place).resolve()
        shutil.copytree(ROOT / "configs", folder / "configs")
        for line in lines(page):
            if ELSEWHERE.search(line.text):
                print(f"      {page.stem}: {line.text.splitlines()[0]}  (not here)", flush=True)
                continue
            if line.text.startswith("cd "):
                folder /= line.text.split()[1]
                continue
            began = time.perf_counter()
            code, said = typed(line, folder, limit)
            found.append(as_shown(line, code, said))
            word = "ok   " if found[-1] else "WRONG"
            print(f"{word} {page.stem}: {line.text}  ({code}, {time.perf_counter() - began:.1f} s)", flush=True)
            if not found[-1]:
                print(said[-2000:], flush=True)
    return found


def main() -> None:
    """The command."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("pages", nargs="*", help="names of pages in docs; README; by default all")
    parser.add_argument("--limit", type=float, default=600, help="seconds of a line")
    given = parser.parse_args()
    pages = {page.stem: page for page in [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]}
    found = [one for name in given.pages or pages for one in check(pages[name], given.limit)]
    print(f"{sum(found)} of {len(found)} lines ended as their pages say")
    sys.exit(0 if all(found) else 1)


if __name__ == "__main__":
    main()
