"""What a run begins with, and goes on with after a resume: workers, state, run directory and recorder."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any

from raysim.config import Experiment
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.preparation.prepare import Prepared
from raysim.execution.preparation.timetable import timetable_text
from raysim.privacy import EpsilonCurve
from raysim.rounds.executor import Executor
from raysim.rounds.job import Job
from raysim.rounds.results import ServerHandle
from raysim.rounds.rows import WIRE
from raysim.selection import Selection, State, load_state
from raysim.selection.edges import edge_bits
from raysim.systems import trace_bits
from raysim.tracking import Checkpoint, Fanout, NoteLevel, Recorder, RunDirectory, Stopping, read_rounds, write_holdings
from raysim.tracking.resuming import refuse_other_bits


@dataclass(frozen=True, slots=True)
class Opening:
    """A run before its next round.

    Attributes:
        executor: whose workers are up.
        server: the state of the federation after the last committed round.
        selection: who chooses cohorts.
        selected: what it remembers after that round.
        evaluation: what to evaluate when.
        stopping: the stop rules, which have seen all rounds so far.
        epsilon: by round, where the run is accounted for.
        recorder: of the run directory, which has the configuration and the facts.
    """

    executor: Executor
    server: ServerHandle
    selection: Selection
    selected: State
    evaluation: EvaluationPlan
    stopping: Stopping
    recorder: Recorder
    epsilon: EpsilonCurve | None = None


def open_run(
    prepared: Prepared,
    directory: Callable[[], RunDirectory],
    observers: Fanout,
    *,
    checkpoint: Checkpoint | None = None,
    recorded_bits: Mapping[str, Any] | None = None,
    notes: Sequence[tuple[str, NoteLevel]] = (),
) -> Opening:
    """Start the workers, and begin the run directory or go on with it. Leaves nothing behind where that fails.

    Args:
        directory: makes or finds the run directory, once workers are up.
        checkpoint: to go on after.
        recorded_bits: what the run ran on so far; other bits are refused.
        notes: for the log.

    Raises:
        RaysimError: workers cannot be started, or would come to other bits.
    """
    experiment, federation = prepared.experiment, prepared.federation
    prompts = () if prepared.prompts is None else prepared.prompts.ranges
    privacy = prepared.privacy
    evaluation = EvaluationPlan.of(experiment, federation, prepared.metrics, prompts, last=prepared.last_round)
    names = ["train/loss", *evaluation.names, *prepared.aggregation.metrics, *prepared.recorded, *prepared.virtual]
    if privacy is not None and privacy.account is not None and privacy.metric is not None:
        observers.preparing("computing epsilon by round")
        names.append(privacy.metric)
    epsilon = epsilon_curve(prepared)
    stopping = Stopping(experiment, names)
    with ExitStack() as undo:
        if experiment.execution.executor == "ray":
            observers.preparing("starting Ray and the client actors")
        executor = undo.enter_context(_executor(prepared.job))
        environment = executor.environment()
        bits = {**environment["bits"], "data": federation.fingerprint}
        if (inexact := _inexact(experiment)) is not None:
            bits["sums"] = inexact[1]
        bits |= trace_bits(experiment.systems) | edge_bits(experiment)
        bits |= {f"stages.{label}": why for label, why in prepared.aggregation.inexact.items()}
        refuse_other_bits(recorded_bits or {}, bits)
        selection = prepared.selection
        selected = selection.first() if checkpoint is None else load_state(checkpoint.path, selection)
        server = executor.first() if checkpoint is None else executor.load(str(checkpoint.path.resolve()))
        run = directory()
        if checkpoint is None:
            undo.push(partial(_no_trace, run))
        executor.call(run.path.resolve().name)
        after_round = 0 if checkpoint is None else checkpoint.round
        recorder = Recorder(run, experiment, names, observers, after_round=after_round)
        undo.callback(recorder.close)
        if checkpoint is not None:
            run.write_config(experiment)
            for row in read_rounds(run).select([*names, *WIRE]).to_pylist():
                stopping.sent(sum(row.pop(name) or 0 for name in WIRE))
                stopping.see({name: value for name, value in row.items() if value is not None})
        counts = {"parameters": prepared.parameters, "population": federation.population}
        about = {"engine": prepared.engine.reason, "classes": list(federation.info.class_names or ()) or None}
        left_out = federation.left_out()
        recorded: dict[str, Any] = {"left_out": [asdict(one) for one in left_out]} if left_out else {}
        recorded |= {} if prepared.adapters is None else {"adapters": prepared.adapters}
        recorded |= {} if privacy is None else {"privacy": asdict(privacy.facts())}
        environment |= {"bits": bits, **counts, **about, **recorded}
        recorder.start(_facts(prepared, executor, run), environment, server.digest)
        if checkpoint is None:
            write_holdings(run, federation)
            for one in left_out:
                recorder.note(str(one), "warning" if one.grave else "info")
        if prepared.engine.replaced:
            recorder.note(f"training.engine: rows is not possible; {prepared.engine.reason}", "warning")
        if prepared.engine.uncompiled:
            recorder.note(f"training.compile: true is not possible; {prepared.engine.reason}", "warning")
        if prepared.engine.checked:
            recorder.note(f"compiled steps take longer than they need to: {prepared.engine.checked}", "warning")
        if privacy is not None and privacy.caution is not None:
            recorder.note(f"privacy: {privacy.caution}", "warning")
        if prepared.warning is not None:
            recorder.note(prepared.warning, "warning")
        for text, level in notes:
            recorder.note(text, level)
        executor.on_fault(lambda fault: recorder.fault(fault.text, **fault.fields()))
        executor.on_note(lambda text: recorder.note(text, "info"))
        if inexact is not None:
            recorder.note(": sums are ".join(inexact), "info")
        for label, why in prepared.aggregation.inexact.items():
            recorder.note(f"stage {label}: noise is {why}", "info")
        undo.pop_all()
    return Opening(executor, server, selection, selected, evaluation, stopping, recorder, epsilon)


def epsilon_curve(prepared: Prepared) -> EpsilonCurve | None:
    """Epsilon by round, where the run is accounted for."""
    privacy = prepared.privacy
    if privacy is None or privacy.account is None or privacy.metric is None:
        return None
    return privacy.account.curve(privacy.last)


def _inexact(experiment: Experiment) -> tuple[str, str] | None:
    """The key by which sums do not come out the same every time, and what they are; None where they do."""
    aggregation = experiment.aggregation
    if not aggregation.exact:
        return "aggregation.exact is false", "float32, the result depends on who trained whom"
    if aggregation.protection.name == "ckks":
        return "aggregation.protection is ckks", "decrypted with an error of about 1e-8, another one each time"
    return None


def _facts(prepared: Prepared, executor: Executor, run: RunDirectory) -> dict[str, object]:
    experiment, engine = prepared.experiment, prepared.job.engine
    together = f", {engine.rows} clients at a time" if engine.name == "rows" else ""
    compiled = ", compiled" if engine.compiled else ""
    return {
        "run": str(run.path),
        "data": f"{experiment.data.source.name}, {prepared.federation.population:,} clients",
        "model": f"{experiment.model.name}, {prepared.parameters:,} parameters",
        "workers": f"{executor.workers} ({executor.name}, {engine.name} engine{together}{compiled})",
        "engine": prepared.engine.reason,
        **({} if prepared.privacy is None else {"privacy": prepared.privacy.sentence}),
        **({} if prepared.timetable is None else {"timetable": timetable_text(experiment, prepared.timetable)}),
    }


def _executor(job: Job) -> Executor:
    if job.experiment.execution.executor == "inprocess":
        return InProcessExecutor(job)
    from raysim.cluster import RayExecutor  # Ray takes a second to import: only for those who use it

    return RayExecutor(job)


def _no_trace(run: RunDirectory, kind: type[BaseException] | None, *of_error: object) -> None:
    """Take a new run directory away if its run ends before it begins."""
    if kind is not None:
        run.discard()
