"""The grid that a ServerApp talks to: messages go to actors, replies come back in the order of node ids."""

from __future__ import annotations

import threading
import time
from collections import OrderedDict
from collections.abc import Callable, Iterable
from concurrent.futures import Future, wait
from dataclasses import dataclass, field
from queue import Empty, SimpleQueue
from typing import Any, Protocol

from raysim.adapters.flower.client import Replied, Work
from raysim.adapters.flower.library import SERVER_NODE, library
from raysim.adapters.flower.records import Digests
from raysim.adapters.flower.replies import ReplyLog
from raysim.errors import ConfigError

_KEPT = 4
"""Models that are kept where clients read them from, the newest ones."""
_SMALL = 4096
"""Bytes up to which arrays travel in their message."""


class Calls(Protocol):
    """Who runs the clients: actors, or this process."""

    workers: int
    faults: SimpleQueue[str]

    def keep(self, value: Any) -> Any: ...
    def submit(self, name: str, work: Any, parts: Any = ()) -> Future[Any]: ...
    def close(self) -> None: ...


@dataclass(slots=True, eq=False)
class Sent:
    """A message on its way, or answered."""

    message: Any
    partition: int
    number: int
    answer: Future[Replied] = field(default_factory=Future)

    @property
    def id(self) -> str:
        """The id of the message."""
        return f"{self.partition}-{self.number}"

    @property
    def order(self) -> tuple[int, int]:
        """Sorts replies."""
        return self.message.metadata.dst_node_id, self.number


class DrivenMessages:
    """What a grid does, without Flower's base class, which `grid` adds.

    A node's messages are answered one after the other. `pull_messages` waits for all that it is asked for: what a
    server program sees does not depend on who is faster. Only a `timeout`, or a message's time to live, is by the
    clock; replies that come later are not lost, as in Flower.

    Attributes:
        fatal: what ended the run although the server program may have caught it.
        late: messages without a reply in time.
    """

    def __init__(
        self,
        calls: Calls,
        ids: list[int],
        run_id: int,
        config: dict[str, Any],
        *,
        replies: ReplyLog | None,
        sent: Callable[[Any], None],
        received: Callable[[Sent, Replied], None],
    ) -> None:
        """A grid of these nodes.

        Args:
            calls: who runs the clients.
            ids: of the nodes, by partition.
            run_id: of the run.
            config: the app's own configuration.
            replies: those of an earlier sitting, and where this one's go.
            sent: called with every message.
            received: called with every message whose reply the server program gets.
        """
        self._calls, self._ids, self._run_id, self._config = calls, ids, run_id, config
        self._partitions = {node: partition for partition, node in enumerate(ids)}
        self._replies, self._tell_sent, self._tell = replies, sent, received
        self._lock = threading.RLock()
        self._counts: dict[int, int] = {}
        self._last: dict[int, Sent] = {}
        self._states: dict[int, Any] = {}
        self._open: dict[str, Sent] = {}
        self._kept: OrderedDict[tuple[Any, ...], tuple[Any, Any]] = OrderedDict()
        self._run = library().Run.create_empty(run_id)
        self.fatal: BaseException | None = None
        self.late = 0

    def set_run(self, run: Any) -> None:
        """The run stays the one that it is."""

    @property
    def run(self) -> Any:
        """The run."""
        return self._run

    def create_message(
        self, content: Any, message_type: str, dst_node_id: int, group_id: str, ttl: float | None = None
    ) -> Any:
        """A message; deprecated in Flower."""
        return library().Message(content, dst_node_id, message_type, ttl=ttl, group_id=group_id)

    def get_node_ids(self) -> list[int]:
        """All nodes, by partition."""
        return list(self._ids)

    def push_messages(self, messages: Iterable[Any]) -> list[str]:
        """Send messages; their ids."""
        digests = Digests()
        return [self._send(message, digests).id for message in messages]

    def pull_messages(self, message_ids: Iterable[str]) -> list[Any]:
        """Wait for the replies to these messages; in the order of node ids."""
        return self._receive(list(message_ids), None)

    def send_and_receive(self, messages: Iterable[Any], *, timeout: float | None = None) -> list[Any]:
        """Send messages and wait for the replies, at most `timeout` seconds; in the order of node ids."""
        return self._receive(self.push_messages(messages), timeout)

    def _send(self, message: Any, digests: Digests) -> Sent:
        data = message.metadata
        if self.fatal is not None:
            raise self.fatal
        partition = self._partitions.get(data.dst_node_id)
        if partition is None:
            raise ValueError(f"there is no node {data.dst_node_id}; grid.get_node_ids() has those that there are")
        if data.reply_to_message_id != "" or not message.has_content():
            raise ValueError(f"a server sends messages with a content that are no replies, not {message}")
        with self._lock:
            number = self._counts.get(partition, 0)
            self._counts[partition] = number + 1
            before = self._last.get(partition)
            sent = self._last[partition] = Sent(message, partition, number)
            self._open[sent.id] = sent
        data.__dict__.update(_message_id=sent.id, _run_id=self._run_id, _src_node_id=SERVER_NODE)
        self._tell_sent(message)
        digest = "" if self._replies is None else digests.of(message)
        if self._replies is not None:
            try:
                known = self._replies.find(partition, number, digest, message)
            except BaseException as error:
                self.fatal = error
                raise
            if known is not None:
                self._keep_state(partition, known)
                sent.answer.set_result(known)
                return sent
        if before is None or before.answer.done():
            self._submit(sent, digest)
        else:
            before.answer.add_done_callback(lambda done: self._submit(sent, digest))
        return sent

    def _submit(self, sent: Sent, digest: str) -> None:
        try:
            work, parts = self._work(sent)
            name = f"partition {sent.partition} (node {self._ids[sent.partition]})"
            answer = self._calls.submit(name, work, parts)
        except BaseException as error:
            sent.answer.set_exception(error)
            return
        answer.add_done_callback(lambda done: self._answered(sent, digest, done))

    def _work(self, sent: Sent) -> tuple[Work, list[Any]]:
        flwr = library()
        content = sent.message.content
        arrays = {
            name: record
            for name, record in content.items()
            if isinstance(record, flwr.ArrayRecord) and sum(len(one.data) for one in record.values()) > _SMALL
        }
        rest = flwr.RecordDict({name: record for name, record in content.items() if name not in arrays})
        message = flwr.Message(metadata=sent.message.metadata, content=rest)
        node = {"partition-id": sent.partition, "num-partitions": len(self._ids)}
        context = {
            "run_id": self._run_id,
            "node_id": self._ids[sent.partition],
            "node_config": node,
            "run_config": dict(self._config),
        }
        with self._lock:
            state = self._states.get(sent.partition)
            parts = [self._part(record) for record in arrays.values()]
        return Work(message, tuple(content), tuple(arrays), context, state, sent.partition, sent.number), parts

    def _part(self, record: Any) -> Any:
        """Where clients find a record; one whose arrays are the same objects is stored once."""
        key = tuple((name, id(array.data)) for name, array in record.items())
        if key not in self._kept:
            held = [array.data for array in record.values()]  # their ids are those of no other object until then
            self._kept[key] = (held, self._calls.keep(record))
            if len(self._kept) > _KEPT:
                self._kept.popitem(last=False)
        self._kept.move_to_end(key)
        return self._kept[key][1]

    def _answered(self, sent: Sent, digest: str, done: Future[Replied]) -> None:
        error = done.exception()
        if error is None:
            answer = done.result()
            self._keep_state(sent.partition, answer)
            try:
                if self._replies is not None:
                    self._replies.add(sent.partition, sent.number, digest, answer)
            except BaseException as refused:
                error = refused
        if error is None:
            sent.answer.set_result(answer)
        else:
            sent.answer.set_exception(error)

    def _keep_state(self, partition: int, answer: Replied) -> None:
        with self._lock:
            self._states[partition] = answer.state

    def _receive(self, ids: list[str], timeout: float | None) -> list[Any]:
        end = None if timeout is None else time.monotonic() + timeout
        with self._lock:
            wanted = sorted((self._open[one] for one in ids if one in self._open), key=lambda sent: sent.order)
        found: list[Any] = []
        for sent in wanted:
            data = sent.message.metadata
            lives = data.created_at + data.ttl - time.time()
            left = lives if end is None else min(lives, end - time.monotonic())
            wait([sent.answer], timeout=max(0.0, left))
            if sent.answer.done():
                try:
                    answer = sent.answer.result()
                except BaseException as error:
                    self.fatal = self.fatal or error
                    raise
            else:
                self.late += 1
                if left < lives:
                    continue
                answer = Replied(_expired(sent.message), None, "no reply within the message's time to live")
            with self._lock:
                self._open.pop(sent.id, None)
            answer.reply.metadata.__dict__["_message_id"] = f"{sent.id}-reply"
            self._tell(sent, answer)
            found.append(answer.reply)
        return found

    def take_faults(self) -> list[str]:
        """What went wrong with actors since the last call."""
        found = []
        while True:
            try:
                found.append(self._calls.faults.get_nowait())
            except Empty:
                return found


def _expired(message: Any) -> Any:
    flwr = library()
    error = flwr.Error(code=flwr.ErrorCode.REPLY_MESSAGE_UNAVAILABLE, reason="no reply within the time to live")
    return flwr.Message(error, reply_to=message)


def grid(*args: Any, **kwargs: Any) -> Any:
    """`DrivenMessages` that is a Grid of Flower.

    Raises:
        ConfigError: this version's Grid asks for more than is known here.
    """
    flwr = library()
    made = type("DrivenGrid", (DrivenMessages, flwr.Grid), {})
    if unknown := sorted(getattr(made, "__abstractmethods__", ())):
        raise ConfigError(
            f"flwr {flwr.version}: its Grid has {', '.join(unknown)}(), which raysim does not know; install an earlier "
            "version of flwr"
        )
    return made(*args, **kwargs)
