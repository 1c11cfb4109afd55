"""Whether a run is what it says: its files against its chain, and its rounds computed once more in this process."""

from __future__ import annotations

import time
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from torch import nn

from raysim.config import Experiment
from raysim.errors import ConfigError, RaysimError, RunError
from raysim.evaluation.ranges import EvaluationPlan
from raysim.opening import epsilon_curve
from raysim.recomputing import Recomputed, other_tensor
from raysim.replaying import Replay, Say
from raysim.rounds.digests import ServerDigest
from raysim.rounds.results import ServerHandle
from raysim.tracking import CheckpointFolder, Damaged, RunDirectory
from raysim.tracking.chain import Chain, Link, Sitting, read_chain
from raysim.tracking.checking import Deviation, check_files
from raysim.training import HandedOver

ANYWAY = "pass --anyway (anyway=True) to try"


@dataclass(frozen=True, slots=True)
class VerifiedRound:
    """A round that was computed again.

    Attributes:
        round: its number.
        seconds: that it took, with its evaluation.
        same: whether model, state and recorded values came out to the bit.
    """

    round: int
    seconds: float
    same: bool


@dataclass(frozen=True, slots=True)
class Verified:
    """What `verify` came to.

    Attributes:
        run: the run directory.
        first, last: rounds that the chain has.
        link: the last link, which says all that was computed up to the last round.
        rounds: that were asked for, and computed again.
        replayed: rounds in front of them that were computed again to get there; their models were compared, too.
        differences: in order of their finding; none where everything is as the chain says.
        notes: what was not compared, and why.
    """

    run: Path
    first: int
    last: int
    link: str
    rounds: tuple[VerifiedRound, ...]
    replayed: int
    differences: tuple[Deviation, ...]
    notes: tuple[str, ...]

    @property
    def same(self) -> bool:
        """Whether nothing differs."""
        return not self.differences

    @property
    def seconds_per_round(self) -> float | None:
        """Mean over the rounds that were asked for; None where none was computed."""
        return float(np.mean([one.seconds for one in self.rounds])) if self.rounds else None


def verify(
    run: str | Path,
    *,
    rounds: Iterable[int] = (),
    random: int = 0,
    seed: int = 0,
    all: bool = False,
    anyway: bool = False,
    model: nn.Module | None = None,
    data: Any = None,
    loss: Any = None,
    metrics: Sequence[Any] = (),
    tell: Say = lambda text: None,
) -> Verified:
    """Compare a run's files with its chain, and compute rounds of it again.

    Files are compared whatever rounds are asked for: the chain with itself, configuration, environment, both tables,
    checkpoints and the model. Nothing of the run directory is changed.

    Args:
        run: the run directory; the run may be going on, be finished, or have failed.
        rounds: to compute again; by default the last one, where nothing else is asked for.
        random: how many of them, chosen by `seed`.
        all: all of them.
        anyway: compute them although the bits may be others here.
        model: the module that the run was started with, if it was handed over.
        data: the arrays that the run was started with, if they were handed over.
        loss, metrics: those that the run was started with, if they were handed over.
        tell: is told what is being done, a line at a time.

    Raises:
        RunError: there is no such run or round, it has no chain, its rounds do not come to the same bits anywhere, or
            they do not here.
    """
    directory = RunDirectory.open(run)
    chain = read_chain(directory.chain)
    wanted = _wanted(chain, rounds, random, seed, all)
    tell("comparing the files")
    work = _Verification(directory, chain, check_files(directory, chain), anyway=anyway, tell=tell)
    try:
        work.compute(wanted, model, data, HandedOver(loss, tuple(metrics)))
    except RaysimError as error:
        if not work.found or isinstance(error, ConfigError):
            raise
        work.notes.append(f"no round was computed again: {error}")
    return work.result()


def _wanted(chain: Chain, rounds: Iterable[int], random: int, seed: int, all: bool) -> list[int]:
    known = [one.round for one in chain.links if one.rows is not None]
    wanted = set(rounds)
    if unknown := sorted(wanted - set(known)):
        has = f"rounds {known[0]} to {known[-1]}" if known else "none yet"
        raise RunError(f"there is no round {unknown[0]} in the chain, which has {has}")
    if random:
        wanted |= set(np.random.default_rng(seed).permutation(known)[:random].tolist())
    if all:
        wanted |= set(known)
    return sorted(wanted) or known[-1:]


@dataclass
class _Verification:
    directory: RunDirectory
    chain: Chain
    found: list[Deviation]
    anyway: bool
    tell: Say
    notes: list[str] = field(default_factory=list)
    rounds: list[VerifiedRound] = field(default_factory=list)
    replayed: int = 0

    def __post_init__(self) -> None:
        self.links = {one.round: one for one in self.chain.links}
        self.sound: set[int] = set()

    def compute(self, wanted: Sequence[int], model: nn.Module | None, data: Any, handed: HandedOver) -> None:
        """Compare checkpoints, these rounds and the model."""
        experiment = Experiment.parse(self.chain.sittings[-1].config)
        self.replay = Replay(self.directory.path, experiment=experiment, model=model, data=data, handed=handed)
        self._check_checkpoints()
        self._check_model(again=False)
        self._check_here()
        unnamed = {one.round for one in self.found if not one.named and one.round is not None}
        self._check_rounds(sorted({*wanted, *sorted(unnamed)[:1]}))
        named = {(one.file, one.round) for one in self.found if one.named}
        self.found = [one for one in self.found if one.named or (one.file, one.round) not in named]
        self._check_model(again=True)

    def result(self) -> Verified:
        """All that was found."""
        links = self.chain.links
        found = tuple(self.found), tuple(self.notes)
        first, last = links[0].round + (links[0].rows is None), links[-1].round
        return Verified(self.directory.path, first, last, links[-1].link, tuple(self.rounds), self.replayed, *found)

    def _check_here(self) -> None:
        """Raise where rounds would not come to the same bits here."""
        path, bits = self.directory.path, self.chain.sittings[-1].bits
        inexact = [f"sums are {bits['sums']}"] if "sums" in bits else []
        inexact += [f"noise of {key} is {value}" for key, value in bits.items() if key.startswith("stages.")]
        if (bits.get("engine.precision"), bits.get("engine.device")) == ("bf16", "cuda"):
            inexact.append("bfloat16 on a GPU rounds differently from call to call")
        if inexact and not self.anyway:
            raise RunError(f"{path}: cannot be verified: {'; '.join(inexact)}; {ANYWAY}")
        prepared = self.replay.prepared
        if bits.get("data") != prepared.federation.fingerprint:
            name = prepared.experiment.data.source.name
            self.found.append(
                Deviation("samples, or who holds which, are not those that the run had", f"data ({name})")
            )
            if not self.anyway:
                raise RunError(f"its data are others; {ANYWAY}")
        for sitting in self.chain.sittings:
            others = [one for one in self.replay.different(sitting.bits) if not one.startswith("data ")]
            if others and not self.anyway:
                raise RunError(f"{path}: cannot be computed again here: {', '.join(others)}; {ANYWAY}")
            self.notes += [f"computed although {one}" for one in others]

    def _check_checkpoints(self) -> None:
        """Compare every checkpoint with its manifest and with the chain."""
        server = self.replay.executor.server
        with CheckpointFolder(self.directory, self.replay.prepared.experiment.tracking.checkpoints) as folder:
            for number in folder.rounds():
                examined, name = folder.examine(number), f"checkpoints/round-{number:06d}"
                if isinstance(examined, Damaged):
                    self.found.append(Deviation(examined.reason, name, number))
                    continue
                try:
                    digest = ServerDigest.of(*server.load(str(examined.path)))
                except RunError as error:
                    self.found.append(Deviation(str(error), name, number))
                    continue
                link = self.links.get(number)
                wrong = [] if link is None else _differs(digest, link)
                self.found += [Deviation(f"its {what} is not that of the chain", name, number) for what in wrong]
                if not wrong:
                    self.sound.add(number)

    def _check_rounds(self, wanted: Sequence[int]) -> None:
        """Compute rounds again, and stop at the first whose model is another: all behind it are."""
        prepared = self.replay.prepared
        plan = EvaluationPlan.of(prepared.experiment, prepared.federation, prepared.metrics, last=prepared.last_round)
        again = Recomputed(self.directory, prepared, epsilon_curve(prepared), set(wanted))
        last = self.chain.sittings[-1]
        for number in wanted:
            self.replay.nearest(number - 1, lambda at, _: at in self.sound)
            while self.replay.number < number - 1:
                self.tell(f"replaying round {self.replay.number + 1}")
                self.replay.step()
                self.replayed += 1
                if self._moved():
                    self.notes.append(f"round {number} was not reached")
                    return
            self.tell(f"computing round {number}")
            began = time.perf_counter()
            done = self.replay.step(plan.due(number))
            before, moved = len(self.found), self._moved()
            sitting = self._sitting(number)
            whole = all(sitting.config[key] == last.config[key] for key in ("evaluation", "rounds"))
            self.found += again.compare(self.links[number], done.facts, whole=whole)
            same = len(self.found) == before and not moved
            self.rounds.append(VerifiedRound(number, time.perf_counter() - began, same))
            if moved:
                if number != wanted[-1]:
                    self.notes.append(f"rounds behind {number} were not computed")
                return

    def _sitting(self, number: int) -> Sitting:
        """The sitting that a round was worked on in."""
        return [one for one in self.chain.sittings if one.after < number][-1]

    def _moved(self) -> bool:
        """Whether the server that the replay is at is another than the chain says, with a difference if so."""
        number, server = self.replay.number, self.replay.server
        if (link := self.links.get(number)) is None:
            return False
        assert server.digest is not None, "a run with a chain is hashed"
        wrong = _differs(server.digest.result(), link)
        for what in wrong:
            named = self._parameter(number, server) if what == "model" else ""
            self.found.append(Deviation(f"the {what} computed again is another one{named}", "chain.jsonl", number))
        return bool(wrong)

    def _parameter(self, number: int, server: ServerHandle) -> str:
        """The first parameter whose values differ from those of the round's checkpoint, where there is one."""
        if number not in self.sound:
            return ""
        own = self.replay.executor.server
        with CheckpointFolder(self.directory, self.replay.prepared.experiment.tracking.checkpoints) as folder:
            _, model = own.load(str(folder.open(number).path))
        columns = np.flatnonzero(model != server.model)
        return f", first in {own.layout.name_at(int(columns[0]) % own.layout.size)}" if len(columns) else ""

    def _check_model(self, *, again: bool) -> None:
        """Compare the run's model with that of its last round: from its checkpoint, or else computed `again`."""
        last, replay, path = self.chain.links[-1].round, self.replay, self.directory.model
        if not path.is_file() or (last in self.sound) == again:
            return
        own = replay.executor.server
        if not again:
            with CheckpointFolder(self.directory, replay.prepared.experiment.tracking.checkpoints) as folder:
                _, model = own.load(str(folder.open(last).path))
        elif replay.number == last and self.rounds and self.rounds[-1].same:
            model = replay.server.model
        else:
            self.notes.append(f"{path.name} was not compared: there is no sound checkpoint of round {last}")
            return
        with TemporaryDirectory(prefix="raysim-verify-") as folder_name:
            file = Path(folder_name, path.name)
            own.export(str(file), model)
            if what := other_tensor(file, path):
                self.found.append(Deviation(what, path.name, last))


def _differs(found: ServerDigest, link: Link) -> list[str]:
    pairs = {"model": (found.model, link.server.model), "state": (found.state, link.server.state)}
    return [what for what, (own, said) in pairs.items() if own != said]
