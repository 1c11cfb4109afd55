"""Which page is where, and what is on it."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from http import HTTPStatus
from typing import TypeAlias
from urllib.parse import quote, urlencode

from raysim.errors import RaysimError, RunError
from raysim.serving.folder import RunsFolder, Signature, signature_of
from raysim.serving.gallery import Gallery
from raysim.serving.listing import SHOWN, Listing, link, list_parts, runs_table
from raysim.serving.live import Moment, parts
from raysim.serving.responses import Response, Watched, message, page, placed, values
from raysim.tracking import RunDirectory, read_rounds
from raysim.tracking.report.comparison import comparison
from raysim.tracking.report.markup import Html, element, join, section
from raysim.tracking.report.recorded import read_run
from raysim.tracking.report.sections import single_run

SHARE = 10.0
"""Reading a run takes at most one part in this many of the time; the training beside it needs the rest."""
SOONEST, LATEST = 1.0, 60.0
"""Seconds between two looks at a run."""
KEPT = 32
"""Runs whose pages are kept until they change."""

Query: TypeAlias = Mapping[str, Sequence[str]]


@dataclass(frozen=True, slots=True)
class _Read:
    """The parts of a run's page, and of which state of its files."""

    signature: Signature
    parts: dict[str, Html]
    version: str
    title: str
    running: bool
    again: float


class Site:
    """Answers of a folder of runs. Reads, and writes nothing."""

    def __init__(self, folder: RunsFolder) -> None:
        """Of this folder."""
        self._folder = folder
        self._gallery = Gallery()
        self._reads: dict[str, _Read] = {}
        self._reading = threading.Lock()

    def answer(self, path: str, query: Query) -> Response:
        """What is at a path, decoded, that begins with a slash."""
        try:
            return self._routed(path, query)
        except RaysimError as error:
            if path.startswith("/api/"):
                return values({"error": str(error)}, HTTPStatus.NOT_FOUND)
            return message(HTTPStatus.NOT_FOUND, str(error))

    def _routed(self, path: str, query: Query) -> Response:
        whole: dict[str, Callable[[Query], Response]] = {
            "/": self._list,
            "/parts": self._list_parts,
            "/compare": self._compare,
            "/api/runs": self._api_runs,
        }
        if path in whole:
            return whole[path](query)
        below: dict[str, Callable[[str, Query], Response]] = {
            "/runs/": self._run,
            "/parts/": self._run_parts,
            "/reports/": self._report,
            "/studies/": self._study,
            "/pictures/": self._picture,
            "/api/runs/": self._api_since,
        }
        for start, found in below.items():
            if path.startswith(start):
                return found(path.removeprefix(start), query)
        return message(HTTPStatus.NOT_FOUND, f"There is nothing at {path}.")

    # The list

    def _list(self, query: Query) -> Response:
        found, again = self._listed(query)
        asked = urlencode({"filter": _filters(query), "limit": _limit(query)}, doseq=True)
        watched = Watched(f"/parts?{asked}", _version(found.parts), again, found.running)
        return page(found.title, join([found.head, placed(found.parts), found.foot]), watched=watched)

    def _list_parts(self, query: Query) -> Response:
        found, again = self._listed(query)
        return _newer(query, _version(found.parts), found.parts, found.title, again)

    def _listed(self, query: Query) -> tuple[Listing, float]:
        began = time.perf_counter()
        return list_parts(self._folder, _filters(query), _limit(query)), _pace(began)

    # One run

    def _run(self, name: str, query: Query) -> Response:
        read = self._read(name)
        more = element("p", join([link(f"/reports/{quote(name)}", "The whole report"), " · ", _raw(name)]))
        watched = Watched(f"/parts/{quote(name)}", read.version, read.again, read.running)
        return page(read.title, join([placed(read.parts), more]), trail=f"/ {name}", watched=watched)

    def _run_parts(self, name: str, query: Query) -> Response:
        read = self._read(name)
        return _newer(query, read.version, read.parts, read.title, read.again)

    def _read(self, name: str) -> _Read:
        run = self._folder.run(name)
        with self._reading:
            signature = signature_of(run)
            known = self._reads.get(name)
            if known is None or known.signature != signature:
                known = self._reads[name] = self._read_anew(name, run, signature)
                while len(self._reads) > KEPT:
                    del self._reads[next(iter(self._reads))]
            return known

    def _read_anew(self, name: str, run: RunDirectory, signature: Signature) -> _Read:
        began = time.perf_counter()
        ((_, glance),) = self._folder.past([name])
        moment = Moment.of(name, glance, run)
        found = parts(moment)
        again = _pace(began)
        title = f"{moment.run.rounds} rounds · {name}" if glance.state == "running" else name
        return _Read(signature, found, _version(found), title, glance.state == "running", again)

    def _report(self, name: str, query: Query) -> Response:
        run = self._folder.run(name)
        place = self._gallery.place(_fingerprint("report", name, signature_of(run)))
        content = single_run(read_run(run.path, name), place)
        return page(f"{name}: report", content, trail=join(["/ ", link(f"/runs/{quote(name)}", name), " / report"]))

    # Several

    def _compare(self, query: Query) -> Response:
        names = list(dict.fromkeys(query.get("run", ())))
        if not names:
            raise RunError("nothing to compare: choose runs in the list")
        runs = [self._folder.run(name) for name in names]
        place = self._gallery.place(_fingerprint("compare", *names, *map(signature_of, runs)))
        recorded = [read_run(run.path, name) for run, name in zip(runs, names, strict=True)]
        return page(f"{len(runs)} runs", comparison(recorded, place), trail="/ comparison")

    def _study(self, name: str, query: Query) -> Response:
        from raysim.tuning.report import study_content  # Optuna takes seconds to import
        from raysim.tuning.report.recorded import read_recorded

        path = self._folder.study(name)
        recorded = read_recorded(path)
        place = self._gallery.place(_fingerprint("study", name, path.stat().st_mtime_ns, len(recorded.trials)))
        trials = self._folder.past(self._folder.trials(name))
        own = [section("Runs of the trials", runs_table(trials[:SHOWN]))] if trials else []
        return page(name, join([study_content(recorded, place), *own]), trail=f"/ {name}")

    def _picture(self, name: str, query: Query) -> Response:
        place, _, theme = name.rpartition("/")
        of, _, picture = place.partition("/")
        png = self._gallery.png(of, picture, theme)
        if png is None:
            return message(HTTPStatus.NOT_FOUND, "The page of this picture was closed long ago; load it again.")
        return Response(png, "image/png", headers={"Cache-Control": "private, max-age=3600, immutable"})

    # For programs

    def _api_runs(self, query: Query) -> Response:
        found = self._folder.past(self._folder.names(), _filters(query))
        return values({"runs": [{"name": name, **run.to_dict()} for name, run in found], "found": len(found)})

    def _api_since(self, name: str, query: Query) -> Response:
        name, _, after = name.rpartition("/since/")
        if not after.isdecimal():
            raise RunError("expected /api/runs/NAME/since/ROUND")
        run = self._folder.run(name)
        ((_, glance),) = self._folder.past([name])
        rows = [row for row in read_rounds(run).to_pylist() if row["round"] > int(after)]
        return values({"name": name, **glance.to_dict(), "new": rows})


def _newer(query: Query, version: str, found: Mapping[str, Html], title: str, again: float) -> Response:
    """The parts, where they are others than those that were seen."""
    if version in query.get("seen", ()):
        return Response(b"", "application/json", HTTPStatus.NO_CONTENT)
    parts = {name: part.text for name, part in found.items()}
    return values({"version": version, "again": again, "title": f"{title} · raysim", "parts": parts})


def _pace(began: float) -> float:
    """Seconds until one may look again, after a look that began then."""
    return min(LATEST, max(SOONEST, SHARE * (time.perf_counter() - began)))


def _raw(name: str) -> Html:
    return link(f"/api/runs/{quote(name)}/since/0", "its rounds as JSON")


def _version(found: Mapping[str, Html]) -> str:
    return _fingerprint(*(part.text for part in found.values()))


def _fingerprint(*what: object) -> str:
    return hashlib.blake2b(repr(what).encode(), digest_size=12).hexdigest()


def _filters(query: Query) -> list[str]:
    return [word for text in query.get("filter", ()) for word in text.split()]


def _limit(query: Query) -> int:
    asked = query.get("limit", ("",))[0]
    return int(asked) if asked.isdecimal() and len(asked) < 9 else SHOWN
