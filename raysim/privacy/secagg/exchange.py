"""The server's side of secure aggregation, and the clients' answers: keys, shares, and what opens the sum."""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from raysim.aggregation.protocol import Ask, Begun, Peers, Question, RoundProtocol, SumOpening
from raysim.arrays import Int32, Int64
from raysim.config.protection import MaskedConfig, SecAggPlusConfig, UnmaskedConfig
from raysim.errors import RunError
from raysim.privacy.secagg import shamir
from raysim.privacy.secagg.dropout import REASONS, Dropout
from raysim.privacy.secagg.graph import USUAL
from raysim.privacy.secagg.keys import KEY_BYTES
from raysim.privacy.secagg.peer import SEALED_BYTES, Peer, Terms

KEYS, SHARES, UNMASKING = "secagg/keys", "secagg/shares", "secagg/unmasking"
"""Metrics: bytes of a round's public keys, of its encrypted shares, and of the shares that open its sum, both ways."""

_REMEMBERED = 64
"""Rounds whose answers clients remember: more than are ever worked on ahead."""


class Unprotected(RoundProtocol):
    """No messages at all: only the clients that drop out before they send their record."""

    def __init__(self, config: UnmaskedConfig) -> None:
        self._dropout = Dropout(config.dropout)

    def begin(self, seed: int, round_number: int, clients: Int64, ask: Ask) -> Begun:
        here: Int64 = np.arange(len(clients))
        gone: dict[int, str] = {}
        for stage, reason in REASONS.items():
            gone |= dict.fromkeys(self._dropout.lost(seed, round_number, stage, here, clients).tolist(), reason)
            here = np.setdiff1d(here, list(gone))
        return Begun(Peers(clients, gone))

    def end(self, seed: int, round_number: int, begun: Begun, contributed: Int32, ask: Ask) -> SumOpening:
        return SumOpening(begun.peers)

    def answer(self, seed: int, question: Question) -> list[bytes]:
        raise AssertionError("this protocol asks no client")


@dataclass(frozen=True, slots=True)
class _Mail:
    """Shares on their way, by sender: the neighbours that they are for, and the bytes, in one order.

    Attributes:
        keys, shares: bytes of the messages so far, both ways.
    """

    sent: dict[int, tuple[list[int], bytes]]
    keys: int
    shares: int

    def to(self, position: int, senders: Sequence[int]) -> bytes:
        """What these clients sent to one."""
        return b"".join(self._one(sender, position) for sender in senders)

    def _one(self, sender: int, position: int) -> bytes:
        others, texts = self.sent[sender]
        place = bisect_left(others, position)
        return texts[place * SEALED_BYTES : (place + 1) * SEALED_BYTES]


class SecAgg(RoundProtocol):
    """Masks between pairs of clients, and of each by itself.

    On the clients' side it remembers which secret of whom a client has handed out a share of, and refuses the other.
    """

    def __init__(self, config: MaskedConfig) -> None:
        neighbours = (config.neighbours or USUAL) if isinstance(config, SecAggPlusConfig) else None
        self.terms = Terms(config.threshold, neighbours)
        self._dropout = Dropout(config.dropout)
        self._handed_out: dict[int, dict[tuple[int, int], bool]] = {}

    def begin(self, seed: int, round_number: int, clients: Int64, ask: Ask) -> Begun:
        count = len(clients)
        graph = self.terms.graph(seed, round_number, count)
        gone: dict[int, str] = {}

        def staying(stage: str, here: Int64) -> Int64:
            lost = self._dropout.lost(seed, round_number, stage, here, clients)
            gone.update(dict.fromkeys(lost.tolist(), REASONS[stage]))
            return np.setdiff1d(here, lost)

        here = staying("advertise", np.arange(count))
        self._enough(round_number, "clients sent keys", len(here), count)
        keys = np.zeros((count, 2 * KEY_BYTES), np.uint8)
        answers = ask(Question(round_number, "advertise", here, clients[here], clients))
        keys[here] = np.frombuffer(b"".join(answers), np.uint8).reshape(len(here), 2 * KEY_BYTES)
        others = {position: np.intersect1d(graph.of(position), here).tolist() for position in here.tolist()}
        for position, known in others.items():
            self._enough(round_number, f"neighbours of client {clients[position]} sent keys", len(known), graph.degree)
        traffic = 2 * KEY_BYTES * len(here) + 2 * KEY_BYTES * sum(map(len, others.values()))

        advertised, here = here, staying("share", here)
        self._enough(round_number, "clients sent shares", len(here), count)
        answers = ask(Question(round_number, "share", here, clients[here], clients, (keys, advertised)))
        sent = {one: (others[one], text) for one, text in zip(here.tolist(), answers, strict=True)}
        lost = self._dropout.lost(seed, round_number, "upload", here, clients)
        peers = Peers(clients, gone, keys, dict.fromkeys(lost.tolist(), REASONS["upload"]))
        up = 2 * KEY_BYTES * len(advertised) + sum(map(len, answers))
        return Begun(peers, _Mail(sent, traffic, sum(map(len, answers))), up, traffic - 2 * KEY_BYTES * len(advertised))

    def end(self, seed: int, round_number: int, begun: Begun, contributed: Int32, ask: Ask) -> SumOpening:
        peers, mail = begun.peers, begun.mail
        clients, count = peers.clients, len(peers.clients)
        graph, present = self.terms.graph(seed, round_number, count), peers.present()
        survivors: Int64 = np.sort(contributed).astype(np.int64)
        self._enough(round_number, "clients sent a record", len(survivors), count, least=2)
        here = np.setdiff1d(survivors, self._dropout.lost(seed, round_number, "unmask", survivors, clients))
        own = tuple(mail.to(one, np.intersect1d(graph.of(one), present).tolist()) for one in here.tolist())
        common = (peers.keys, present, survivors)
        answers = ask(Question(round_number, "unmask", here, clients[here], clients, common, own))

        shares: dict[int, list[tuple[int, int]]] = {one: [] for one in present.tolist()}
        for position, answer in zip(here.tolist(), answers, strict=True):
            senders = np.intersect1d(graph.of(position), present).tolist()
            for place, other in enumerate(senders):
                text = answer[place * shamir.SHARE_BYTES : (place + 1) * shamir.SHARE_BYTES]
                shares[other].append((position + 1, int.from_bytes(text, "big")))
        needed = self.terms.needed(graph.degree)
        for position, known in shares.items():
            what = f"neighbours of client {clients[position]} handed out shares"
            self._enough(round_number, what, len(known), graph.degree)
        lists = 2 * -(-count // 8) * len(survivors)  # who is there, and whose record arrived: a bit for each client
        delivered, handed_out = sum(map(len, own)), sum(map(len, answers))
        return SumOpening(
            peers,
            {position: tuple(known[:needed]) for position, known in shares.items()},
            up=begun.up + handed_out,
            down=begun.down + delivered + lists,
            metrics={
                KEYS: float(mail.keys),
                SHARES: float(mail.shares + delivered),
                UNMASKING: float(handed_out + lists),
            },
        )

    def answer(self, seed: int, question: Question) -> list[bytes]:
        count = len(question.cohort)
        found = []
        asked = zip(question.positions.tolist(), question.clients.tolist(), strict=True)
        for place, (position, client) in enumerate(asked):
            peer = Peer(self.terms, seed, question.round, count, position, client)
            if question.stage == "advertise":
                found.append(peer.advertise())
            elif question.stage == "share":
                found.append(peer.share(*question.common))
            else:
                found.append(self._reveal(peer, question, question.own[place]))
        return found

    def _reveal(self, peer: Peer, question: Question, mail: bytes) -> bytes:
        """A client's shares, unless it was asked for too much."""
        keys, present, survivors = question.common
        who = f"round {question.round}: the client at position {peer.position}"
        if len(survivors) < max(2, self.terms.needed(len(question.cohort))):
            raise RunError(f"{who} hands out no shares: only {len(survivors)} records are said to have arrived")
        memory = self._remember(question.round)
        arrived = set(survivors.tolist())
        for other in peer.neighbours(present):
            if memory.setdefault((peer.position, other), other in arrived) != (other in arrived):
                raise RunError(f"{who} is asked for both secrets of the one at position {other}, and refuses")
        try:
            found = peer.reveal(keys, present, survivors, mail)
        except ValueError as error:
            raise RunError(f"{who} hands out no shares: {error}") from error
        return b"".join(found.values())

    def _remember(self, round_number: int) -> dict[tuple[int, int], bool]:
        """For each pair of a client and a neighbour, whether the neighbour's record was said to have arrived."""
        memory = self._handed_out.setdefault(round_number, {})
        while len(self._handed_out) > _REMEMBERED:
            del self._handed_out[min(self._handed_out)]
        return memory

    def _enough(self, round_number: int, what: str, found: int, of: int, least: int = 1) -> None:
        """Raise a RunError where fewer answered than the threshold."""
        needed = max(least, self.terms.needed(of))
        if found < needed:
            raise RunError(
                f"round {round_number}: secure aggregation: {found} of {of} {what}, and {needed} must "
                f"(aggregation.protection.threshold {self.terms.threshold:g})"
            )
