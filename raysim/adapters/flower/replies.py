"""Replies on disk: what a run that was broken off is continued from.

A server program of Flower cannot be stopped in the middle and written down. But it is a function of the seed and of the
replies that it gets: so it is run again from its beginning, with the replies that are there already, and clients train
only what had not been answered. A message that differs from the one answered then ends the resume: the program
depends on something else, such as the time.
"""

from __future__ import annotations

import hashlib
import json
import threading
from pathlib import Path

from raysim.adapters.flower.client import Replied
from raysim.adapters.flower.library import library
from raysim.adapters.flower.records import decode, encode
from raysim.errors import RunError
from raysim.files import storing

_HEAD = 8 + 32
"""Bytes in front of each entry: its length, and the SHA-256 of what follows."""


class ReplyLog:
    """Entries one after the other in a file; the first that is not whole, and all behind it, are cut off.

    Attributes:
        full: whether the replies took more bytes than allowed; the file is gone then.
    """

    def __init__(self, path: Path, budget: int) -> None:
        """Read what is there, if anything.

        Raises:
            StorageError: the disk refuses.
        """
        self._path, self._budget = path, budget
        self._places: dict[tuple[int, int], tuple[int, int]] = {}
        self._lock = threading.Lock()
        self.full = False
        with storing(path):
            self._file = path.open("a+b")
            self._size = self._scan()
            self._file.truncate(self._size)

    def __len__(self) -> int:
        return len(self._places)

    def find(self, partition: int, number: int, digest: str, message: object) -> Replied | None:
        """The answer to a node's message, where it is there.

        Raises:
            RunError: that answer was to another message.
        """
        with self._lock:
            place = self._places.get((partition, number))
            if place is None:
                return None
            self._file.seek(place[0])
            data = self._file.read(place[1])
        size = int.from_bytes(data[:8], "little")
        head = json.loads(data[8 : 8 + size])
        if head["digest"] != digest:
            raise RunError(
                f"{self._path.parent}: cannot be resumed: message {number + 1} to partition {partition} is another one "
                "than before the break, so the server program depends on more than the seed and the replies (the time, "
                "or a generator of its own); start a new run"
            )
        return _answer(head, data[8 + size :], message)

    def add(self, partition: int, number: int, digest: str, answer: Replied) -> None:
        """Keep an answer.

        Raises:
            StorageError: the disk refuses.
        """
        data = _bytes(partition, number, digest, answer)
        with self._lock, storing(self._path):
            if self.full:
                return
            if self._size + _HEAD + len(data) > self._budget:
                self.full = True
                self._file.close()
                self._path.unlink(missing_ok=True)
                return
            self._file.write(len(data).to_bytes(8, "little") + hashlib.sha256(data).digest() + data)
            self._file.flush()
            self._places[partition, number] = (self._size + _HEAD, len(data))
            self._size += _HEAD + len(data)

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _scan(self) -> int:
        end = self._file.seek(0, 2)
        place = self._file.seek(0)
        while place + _HEAD <= end:
            self._file.seek(place)
            head = self._file.read(_HEAD)
            size = int.from_bytes(head[:8], "little")
            data = self._file.read(min(size, end - place))
            if len(data) < size or hashlib.sha256(data).digest() != head[8:]:
                break
            told = json.loads(data[8 : 8 + int.from_bytes(data[:8], "little")])
            self._places[told["partition"], told["number"]] = (place + _HEAD, size)
            place += _HEAD + size
        return place


def _bytes(partition: int, number: int, digest: str, answer: Replied) -> bytes:
    error = answer.reply.error if answer.reply.has_error() else None
    content = b"" if error is not None else encode(answer.reply.content)
    state = b"" if answer.state is None else encode(answer.state)
    head = {
        "partition": partition,
        "number": number,
        "digest": digest,
        "failed": None if error is None else [error.code, error.reason],
        "error": answer.error,
        "seconds": answer.seconds,
        "content": len(content),
    }
    text = json.dumps(head).encode()
    return b"".join([len(text).to_bytes(8, "little"), text, content, state])


def _answer(head: dict[str, object], rest: bytes, message: object) -> Replied:
    flwr = library()
    size = head["content"]
    assert isinstance(size, int)
    failed = head["failed"]
    body = flwr.Error(code=failed[0], reason=failed[1]) if isinstance(failed, list) else decode(rest[:size])
    state = decode(rest[size:]) if len(rest) > size else None
    error = head["error"]
    seconds = head["seconds"]
    assert isinstance(seconds, float)
    return Replied(flwr.Message(body, reply_to=message), state, None if error is None else str(error), None, seconds)
