"""Which tests run in one process, where `make test` uses several."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

RAY = ("session_ray", "own_ray")
"""The groups that take longest and begin first."""


def group(nodeid: str) -> str:
    """The group of a test, by its node id.

    The files with tests of the session's Ray are one group, so that it is started once. Those that start a Ray of their
    own are another, so that they follow each other. Any other file is a group by itself: its fixtures are made once.
    """
    return _of_file(nodeid.partition("::")[0])


def rank(nodeid: str) -> int:
    """Where the test comes in the order of groups."""
    name = group(nodeid)
    return RAY.index(name) if name in RAY else len(RAY)


@cache
def _of_file(path: str) -> str:
    text = (Path(__file__).parents[1] / path).read_text(encoding="utf-8")
    return RAY[0] if "ray_session" in text else RAY[1] if "mark.ray" in text else path


def scheduler(config: Any, log: Any) -> Any:
    """A scheduler of pytest-xdist that gives out whole groups, in the order of the collection."""
    from xdist.scheduler import LoadScopeScheduling

    class Groups(LoadScopeScheduling):
        def _split_scope(self, nodeid: str) -> str:
            return group(nodeid)

    config.option.loadscopereorder = False
    return Groups(config, log)
