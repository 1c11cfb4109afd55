"""Exit codes of every command; they are a promise (AGENTS.md)."""

from __future__ import annotations

import signal
from collections.abc import Mapping

DONE = 0
FOUND = 1
USER_ERROR = 2
INTERRUPTED = 128 + signal.SIGINT
TERMINATED = 128 + signal.SIGTERM

EXIT_CODES: Mapping[int, str] = {
    DONE: "done",
    FOUND: "done, and what the command looks for is wrong: the output says what",
    USER_ERROR: "an error that you can mend: wrong options, configuration, data, code of your own, a full disk",
    INTERRUPTED: "interrupted by Ctrl-C",
    TERMINATED: "ended by SIGTERM",
}
"""What each means. A traceback without `--debug` (its exit code is 1) is a defect of raysim."""
