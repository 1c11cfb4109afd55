"""Where Optuna keeps a study: a journal in the study's folder, or a database whose password is in the environment."""

from __future__ import annotations

import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import optuna
from optuna.storages import BaseStorage, JournalStorage
from optuna.storages.journal import BaseJournalBackend, JournalFileBackend

from raysim.config.parsing import Malformed, parse_json
from raysim.config.showing import hidden
from raysim.errors import ConfigError, RunError
from raysim.files import storing

PASSWORD = "RAYSIM_STORAGE_PASSWORD"  # noqa: S105 - the variable's name
"""Environment variable with the password of the database: the URL, which every run records, must not hold it."""


def open_storage(journal: Path, url: str | None, *, reading: bool = False) -> BaseStorage:
    """The storage at `tuning.storage`, or the journal where it names none.

    Args:
        journal: the file in the study's folder.
        url: of a database.
        reading: only to look at: the journal is taken as it is now and left alone, for another process may write it.

    Raises:
        ConfigError: the database cannot be opened. No message of its driver is passed on with the password in it.
        RunError: the journal is damaged.
        StorageError: the disk refuses.
    """
    if url is None:
        try:
            if reading:
                return JournalStorage(_Snapshot(journal))
            _mend(journal)
            return JournalStorage(_Journal(journal))
        except RunError:
            raise
        except Exception as error:  # whatever Optuna trips over
            raise RunError(f"{journal}: damaged ({type(error).__name__}: {error}); start a new study") from None
    password = os.environ.get(PASSWORD)
    try:
        return optuna.storages.get_storage(_with_password(url, password))
    except Exception as error:  # whatever the driver of that database raises
        reason = hidden((str(error).splitlines() or [type(error).__name__])[0])
        reason = reason.replace(password, "***") if password else reason
        raise ConfigError(
            f"tuning.storage: {url!r} cannot be opened ({reason}); give a database URL such as sqlite:///study.db, and "
            f"its password in {PASSWORD}"
        ) from None


class _Journal(JournalFileBackend):
    """Optuna's journal; what its disk refuses is a `StorageError`."""

    def __init__(self, file: Path) -> None:
        with storing(file):
            super().__init__(str(file))

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        with storing(self._file_path):
            super().append_logs(logs)


class _Snapshot(BaseJournalBackend):
    """A journal's whole lines at one moment, which cannot be added to."""

    def __init__(self, file: Path) -> None:
        content = file.read_bytes()
        self._lines = content[: content.rfind(b"\n") + 1].splitlines()

    def read_logs(self, log_number_from: int) -> Iterable[dict[str, Any]]:
        return map(parse_json, self._lines[log_number_from:])

    def append_logs(self, logs: list[dict[str, Any]]) -> None:
        raise NotImplementedError("this study is open for reading only")


def _with_password(url: str, password: str | None) -> str:
    if not password or url.startswith("sqlite"):
        return url
    from sqlalchemy.engine import make_url  # Optuna's own dependency, which takes a second to import

    return make_url(url).set(password=password).render_as_string(hide_password=False)


def _mend(journal: Path) -> None:
    """Remove the half line and the lock that a killed driver may have left; earlier lines are whole."""
    journal.with_name(f"{journal.name}.lock").unlink(missing_ok=True)
    if not journal.exists():
        return
    with journal.open("r+b") as file:
        content = file.read()
        if not content.endswith(b"\n"):
            content = content[: content.rfind(b"\n") + 1]
            file.truncate(len(content))
    try:  # Optuna reads a last line that is no JSON as one that is being written, and fails on it later
        parse_json(content.rstrip(b"\n").rpartition(b"\n")[2] or b"{}")
    except Malformed as error:
        raise RunError(f"{journal}: damaged (its last line: {error.reason}); start a new study") from None
