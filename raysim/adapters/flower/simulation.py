"""`FlowerSimulation`: an app of Flower from its start, or from a break, to its end."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Self

from threadpoolctl import threadpool_limits

from raysim.adapters.flower.apps import AppSource, FlowerApp, find_app
from raysim.adapters.flower.client import ClientProgram
from raysim.adapters.flower.folder import RUN_FILE, flower_logs, new_folder, write_settings
from raysim.adapters.flower.grid import Calls, grid
from raysim.adapters.flower.inprocess import InProcessCalls
from raysim.adapters.flower.library import SERVER_NODE, identify, library, no_other_federation, untried
from raysim.adapters.flower.notes import note_end
from raysim.adapters.flower.randomness import SERVER, node_ids, run_id, seeded
from raysim.adapters.flower.recording import Recording
from raysim.adapters.flower.replies import ReplyLog
from raysim.adapters.flower.report import write_flower_report
from raysim.adapters.flower.watching import watching
from raysim.config import Experiment
from raysim.config.flower import FlowerConfig
from raysim.config.loading import read_yaml
from raysim.errors import ConfigError, RaysimError, RunError
from raysim.files import looked_up, storing, sweep
from raysim.locks import FolderLock
from raysim.rounds.rows import RoundRow, RunSummary
from raysim.tracking import Observing, open_observers
from raysim.tracking.log import FINISHED, STARTED, EventLog
from raysim.user_code import user_code

NODES = 10
"""Of an app that says nothing of its federation."""
_REPLIES, _LOG, _PROGRAM_LOG = "replies.bin", "log.jsonl", "flower.log"
_RESUMABLE = ("execution", "tracking", "run")
"""What a resume may change."""


@dataclass(frozen=True, slots=True)
class FlowerResult:
    """What a run of an app came to.

    Attributes:
        rounds: a row for each.
        arrays: of the final model by name; None where the app never aggregated any, nor sent any to be evaluated.
        run: the run directory.
        failures: messages that were answered with an error.
        late: messages without a reply in the time that the app allows; not 0, the result depends on the machine.
    """

    rounds: list[RoundRow]
    arrays: Mapping[str, Any] | None
    run: Path
    failures: int
    late: int


class FlowerSimulation:
    """An app of Flower on raysim's actors, or in this process. `run` it once.

    Example:
        >>> from raysim.adapters.flower import FlowerSimulation
        >>> result = FlowerSimulation("my_app", {"nodes": 100, "execution": {"executor": "inprocess"}}).run()
        >>> result.rounds[-1].metrics["evaluate/accuracy"]
    """

    def __init__(
        self,
        app: FlowerApp | str | tuple[Any, Any],
        config: FlowerConfig | Mapping[str, Any] | None = None,
        *,
        directory: str | Path | None = None,
        progress: Observing = None,
    ) -> None:
        """Find the app; nothing is made or started yet.

        Args:
            app: what may stand behind `flower:`, or a pair (ServerApp, ClientApp).
            config: how it is run.
            directory: the run directory; by default a new one below `tracking.directory`.
            progress: who is told how the run goes, as of `Simulation`.

        Raises:
            ConfigError: there is no such app, or the configuration is wrong.
        """
        self.config = config if isinstance(config, FlowerConfig) else FlowerConfig.parse(config or {})
        if isinstance(app, str):
            app = find_app(app)
        elif isinstance(app, tuple):
            server, client = app
            app = FlowerApp("app", "in memory", AppSource(client, server))
        self.app = app.configured(self.config.run)
        self._progress, self._directory, self._resumed = progress, directory, False
        self._server, self._client = self.app.source.server_app(), self.app.source.client_app()
        self.directory: Path | None = None

    @classmethod
    def resume(cls, run: str | Path, *, overrides: Sequence[str] = (), progress: Observing = None) -> Self:
        """Continue a run that was broken off, to the bits that it would have come to anyway.

        The server program is run again from its beginning with the replies that are there; see `replies`.

        Args:
            run: the run directory.
            overrides: `key.sub=value` of `execution`, `tracking` and `run`.
            progress: as of the constructor.

        Raises:
            RunError: the run has no replies, or the app was handed over in memory.
            ConfigError: an override is of something else.
        """
        folder = looked_up(run)
        values = read_yaml(folder / RUN_FILE)
        for override in overrides:
            if (section := override.partition("=")[0].partition(".")[0]) not in _RESUMABLE:
                raise ConfigError(f"{section}: a resume of an app changes only {', '.join(_RESUMABLE)}")
        if values["app"] == "in memory":
            raise RunError(f"{run}: its app was handed over in memory; start a new run")
        if not (folder / _REPLIES).is_file():
            raise RunError(f"{run}: has no replies to continue from (tracking.reply_bytes); start a new run")
        config = FlowerConfig.parse(values["config"], overrides, where=str(folder / RUN_FILE))
        made = cls(values["app"], config, directory=folder, progress=progress)
        made._resumed = True
        return made

    def run(self) -> FlowerResult:
        """Run the app to its end.

        Raises:
            RaysimError: the server program failed, an actor died too often, or the disk refuses; one line.
        """
        folder = self.directory = self._made()
        with ExitStack() as stack:
            stack.enter_context(FolderLock(folder))
            with storing(folder):
                sweep(folder)
            write_settings(folder, self.app, self.config, self._nodes())
            log = stack.enter_context(EventLog(folder / _LOG))
            stack.enter_context(flower_logs(folder / _PROGRAM_LOG))
            return self._run(folder, log, stack)

    def _run(self, folder: Path, log: EventLog, stack: ExitStack) -> FlowerResult:
        observers = open_observers(self._progress)
        observers.log_failures(lambda failure: log.warning("observer failed", error=str(failure)))
        config, seed, nodes = self.config, self.config.seed, self._nodes()
        observers.preparing("starting the clients")
        calls = self._calls(nodes)
        stack.callback(calls.close)
        began = time.monotonic()

        def start(rounds: int | None) -> None:
            facts = self._facts(folder, nodes, calls.workers)
            log.info(STARTED, **{name: str(value) for name, value in facts.items()})
            observers.start(Experiment(name=self._name(), rounds=rounds or self._rounds_told()), facts)
            if untried():
                observers.note(f"flwr {library().version} is newer than all versions that were tried", "warning")

        def told(row: RoundRow) -> None:
            for text in driven.take_faults():
                log.warning("actor died", text=text)
                observers.note(text, "warning")
            observers.round(row)

        recording = Recording(log, start, told, folder)
        budget = config.tracking.reply_bytes
        replies = ReplyLog(folder / _REPLIES, budget) if budget else None
        if replies is not None:
            stack.callback(replies.close)
            if self._resumed:
                log.info("resume", replies=len(replies))
        ids = node_ids(seed, nodes)
        driven = grid(
            calls, ids, run_id(seed), dict(self.app.config), replies=replies, sent=recording.sent,
            received=recording.received,
        )  # fmt: skip
        reason, failed = "all rounds are done", None
        try:
            self._serve(driven, recording)
        except KeyboardInterrupt:
            reason = "interrupted"
            raise
        except RaysimError as error:
            failed, reason = error, f"failed: {error}"
            raise
        finally:
            with suppress(Exception) if failed is not None else ExitStack():
                recording.finish()
            spent = time.monotonic() - began
            rounds = recording.rounds
            report = write_flower_report(folder) if config.tracking.report and rounds else None
            last: dict[str, float] = {}
            for row in rounds:
                last |= row.metrics
            if failed is None:
                note_end(observers, driven, replies, recording, self._client)
            log.info(FINISHED, reason=reason, rounds=len(rounds))
            summary = RunSummary(len(rounds), reason, spent, last, folder, report)
            observers.finish(summary)
        return FlowerResult(rounds, recording.model, folder, recording.failures, driven.late)

    def _serve(self, driven: Any, recording: Recording) -> None:
        """Run the server program."""
        flwr = library()
        identify(run_id(self.config.seed))
        context = flwr.Context(
            run_id=run_id(self.config.seed),
            node_id=SERVER_NODE,
            node_config={},
            state=flwr.RecordDict(),
            run_config=dict(self.app.config),
        )
        threads = self.config.execution.threads_per_client
        place = f"flower:{self.app.where}: the server app"
        with watching(recording), no_other_federation(), threadpool_limits(limits=threads):
            try:
                with seeded(self.config.seed, SERVER), user_code(place, RunError):
                    self._server(grid=driven, context=context)
            except RaysimError:
                if isinstance(driven.fatal, RaysimError):
                    raise driven.fatal from None
                raise
        if driven.fatal is not None:
            raise driven.fatal

    def _calls(self, nodes: int) -> Calls:
        execution, config = self.config.execution, self.config
        if execution.executor == "inprocess":
            program = ClientProgram(self.app.source, run_id(config.seed), config.seed, None)
            return InProcessCalls(program, execution.threads_per_client)
        from raysim.cluster.calls import CallPool

        cpus = execution.num_cpus if execution.num_cpus is not None else self.app.num_cpus
        gpus = execution.num_gpus if execution.num_gpus is not None else self.app.num_gpus
        with user_code("the client app cannot be sent to actors", ConfigError):
            return CallPool(
                ClientProgram(self.app.source, run_id(config.seed), config.seed, execution.threads_per_client),
                execution.for_ray(),
                actors=None if execution.actors == "auto" else execution.actors,
                most=nodes,
                num_cpus=cpus or None,
                num_gpus=gpus or 0.0,
                max_retries=execution.max_retries,
            )

    def _nodes(self) -> int:
        return self.config.nodes or self.app.nodes or NODES

    def _name(self) -> str:
        return self.config.name or self.app.name

    def _rounds_told(self) -> int:
        """Rounds as the app's own configuration names them; 1 where it does not."""
        found = (self.app.config.get(key) for key in ("num-server-rounds", "num-rounds", "num_rounds"))
        return next((one for one in found if isinstance(one, int) and one > 0), 1)

    def _facts(self, folder: Path, nodes: int, workers: int) -> dict[str, object]:
        place = "in this process" if self.config.execution.executor == "inprocess" else f"{workers} actors"
        return {
            "run": folder,
            "data": f"the app's own, {nodes} nodes",
            "model": f"the app's own ({self.app.where}, flwr {library().version})",
            "workers": place,
            "engine": "the app's own code, a message at a time",
        }

    def _made(self) -> Path:
        if self._resumed:
            assert self._directory is not None
            return Path(self._directory)
        return new_folder(self._directory, self.config.tracking.directory, self._name())
