"""What else shows an effect than a run in process: placements, calls to a Ray that is none, verdicts, studies."""

from __future__ import annotations

import io
import re
from collections.abc import Mapping
from contextlib import redirect_stderr, redirect_stdout
from operator import attrgetter
from pathlib import Path
from typing import Any
from unittest.mock import MagicMock, patch

import numpy as np
import optuna
from outcomes import Lab, Look

from raysim import Experiment, tune
from raysim.cluster.availability import AvailableActors
from raysim.cluster.deadlines import Deadlines
from raysim.cluster.faults import FaultBook
from raysim.cluster.metrics import run_metrics
from raysim.cluster.reduction import NodeSum, ReductionTree
from raysim.cluster.runtime import Runtime
from raysim.errors import RaysimError
from raysim.evaluation.ranges import EvaluationPlan
from raysim.execution.inprocess.executor import InProcessExecutor
from raysim.execution.placement.census import placer
from raysim.execution.placement.memory import Skeleton, actor_memory
from raysim.execution.placement.slots import Node
from raysim.execution.preparation.estimate import make_plan
from raysim.execution.preparation.prepare import Prepared, prepare_job
from raysim.execution.scheduling.round_costs import rounds_ahead
from raysim.rounds.faults import CallFailure, judge
from raysim.rounds.lease import Lease
from raysim.rounds.rows import RunSummary
from raysim.tracking import open_observers
from raysim.tuning.groups import form_groups
from raysim.tuning.objective import resolve_goals
from raysim.tuning.sampling import build_pruner, build_sampler
from raysim.tuning.space import Space
from raysim.tuning.storage import open_storage

GIB = 1024**3
NODES = [Node("a", 4, 2, 64 * GIB, 80 * GIB), Node("b", 4, 2, 64 * GIB, 80 * GIB)]


def _prepared(lab: Lab, overrides: tuple[str, ...]) -> Prepared:
    experiment, data = lab.experiment(overrides)
    return prepare_job(experiment, data=data)


def engine(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """How clients are trained."""
    prepared = _prepared(lab, overrides)
    return prepared.engine.engine, actor_memory(prepared.job)


def recomputed(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Submodules whose forward pass is another than their class's."""
    engine: Any = InProcessExecutor(_prepared(lab, overrides).job).worker.trainer.engine
    return [name for name, module in engine.module.named_modules() if "forward" in vars(module)]


def ranges(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """In how many ranges an evaluation is cut."""
    prepared = _prepared(lab, overrides)
    return len(EvaluationPlan.of(prepared.experiment, prepared.federation, prepared.metrics).due(1))


def placement(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Where actors go on two nodes with two GPUs each, what each takes, and on which device it computes."""
    prepared = _prepared(lab, overrides)
    skeleton = Skeleton.of(prepared.job)
    memory = actor_memory(prepared.job, skeleton)
    return placer(skeleton, memory, NODES).place(NODES), memory, prepared.job.engine.device


def executor(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Whether a plan has actors at all."""
    return make_plan(_prepared(lab, overrides), NODES).placement is None


def calls(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """How Ray is started or found, and what its nodes are taken for."""
    ray, execution = MagicMock(), lab.experiment(overrides)[0].execution
    ray.is_initialized.return_value = False
    ray.nodes.return_value = [{"Alive": True, "NodeID": "a", "Resources": {"CPU": 4.0, "GPU": 1.0, "memory": 1.0}}]
    ray.get.return_value = 5
    here = "raysim.cluster.runtime"
    with (
        patch(f"{here}.import_ray", return_value=ray),
        patch(f"{here}._knock"),
        patch(f"{here}.guard_token"),
        patch(f"{here}.Health"),
        patch.object(Runtime, "pinned"),
    ):
        runtime = Runtime.start(execution)
        return ray.init.call_args.kwargs, runtime.nodes()[0].gpu_memory


def patience(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """What a run says that has lost all its nodes."""
    execution = lab.experiment(overrides)[0].execution
    actors = AvailableActors(MagicMock(), MagicMock(), MagicMock(), execution.wait_for_nodes)
    try:
        with patch.object(AvailableActors, "refresh_nodes", return_value=False):
            actors.wait_for_new_ones()
    except RaysimError as error:
        return str(error)


def verdicts(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """How a lease that is lost for the second time is dealt with, by kind of loss, and when a call counts as lost."""
    execution = lab.experiment(overrides)[0].execution
    book, ids = FaultBook(execution), np.arange(4)
    lease = Lease(1, 1, 0.1, ids.astype(np.int32), ids, np.full(4, 0.25), ids, ids, ids.astype(np.int32))
    kinds: Any = ("died", "hung", "memory", "data", "error")
    found = {
        kind: repr(judge(lease, CallFailure(kind, "lost", RuntimeError()), book.policy(kind), book.max_retries))
        for kind in kinds
    }
    return found, Deadlines(execution.faults).of("step")


def printed(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """What the observers print of a run that begins."""
    experiment = lab.experiment(overrides)[0]
    with redirect_stdout(io.StringIO()) as out, redirect_stderr(io.StringIO()) as err:
        open_observers(None, experiment.tracking.observers).start(Experiment(), {})
    return out.getvalue(), err.getvalue()


def tracked(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """What trackers are called with for a run that begins and ends."""
    experiment, run = lab.experiment(overrides)[0], lab.folder / "tracked"
    run.mkdir(exist_ok=True)
    (run / "model.safetensors").touch()
    calls = MagicMock()
    fakes = {name: getattr(calls, name) for name in ("tensorboard", "mlflow", "wandb")}
    for name in ("compat.proto.event_pb2", "plugins.text.summary_v2", "summary.writer.event_file_writer"):
        fakes[f"tensorboard.{name}"] = attrgetter(name)(calls.tensorboard)
    fakes |= {f"mlflow.{name}": getattr(calls.mlflow, name) for name in ("tracking", "entities")}
    with patch.dict("sys.modules", fakes):
        observers = open_observers(None, experiment.tracking.observers)
        observers.start(experiment, {"run": str(run)})
        observers.finish(RunSummary(1, "all rounds are done", 1.0, {}, run))
    named = ("tracking_uri", "project", "entity", "mode", "group")
    return [
        (call, [one for one in given if isinstance(one, str)], [by_name.get(key) for key in named])
        for call, given, by_name in calls.mock_calls
    ]


def ahead(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Rounds that are worked on before those in front of them are committed."""
    return rounds_ahead(lab.experiment(overrides)[0])


def told(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Whether Ray's metrics are told."""
    with patch("raysim.cluster.metrics.RunMetrics", return_value="told"):
        return run_metrics(lab.experiment(overrides)[0].execution.metrics, True, "run", "home", str)


def hops(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Hops that the sums of nine nodes take."""
    runtime = MagicMock(home="home")
    reducer = runtime.ray.remote.return_value.options.return_value.remote.return_value
    reducer.combine.options.return_value.remote.side_effect = lambda *sums: (MagicMock(), MagicMock())
    nodes = [f"node {i}" for i in range(9)]
    tree = ReductionTree(runtime, nodes, lab.experiment(overrides)[0].aggregation.fan_in)
    return len(tree.reduce([NodeSum((MagicMock(),), node) for node in nodes]).hops)


def cache(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Where the shards are."""
    spec: Any = _prepared(lab, overrides).job.federation
    return str(Path(spec.path).parent)


def scratch(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Files of what clients keep, after a round."""
    experiment, data = lab.experiment(overrides)
    prepared = prepare_job(experiment, data=data)
    found = InProcessExecutor(prepared.job)._store
    assert found is not None
    return {key: str(value) for key, value in vars(found).items() if isinstance(value, int | str | Path | None)}


def space(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """What a study varies, from where, and under which conditions; how clients are grouped; how it goes on."""
    experiment, data = lab.experiment(overrides)
    prepared, tuning = prepare_job(experiment, data=data), experiment.tuning
    groups = form_groups(tuning.weights, prepared.federation, experiment.aggregation.weights, 0)
    found = Space(experiment, groups)
    plan = EvaluationPlan.of(prepared.experiment, prepared.federation, prepared.metrics)
    goals = resolve_goals(tuning.objective, ["train/loss", *plan.names], experiment.rounds)
    made = (build_sampler(tuning.sampler, 0, 1), build_pruner(tuning.pruner, experiment.rounds))
    return (
        repr(found.distributions),
        repr([parameter.when for parameter in found.parameters]),
        None if groups is None else (groups.names, groups.of.tolist()),
        repr(goals),
        [(type(one).__name__, _plain(vars(one))) for one in made],
    )


def study(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """A whole study: picks, values, the confirmation, and what lies in its folder."""
    experiment, data = lab.experiment(overrides)
    folder = lab.folder / f"study-{len(list(lab.folder.iterdir()))}"
    optuna.logging.disable_default_handler()
    tuned = tune(experiment, directory=folder, data=data)
    confirmed = tuned.confirmed
    return (
        [(trial.params, trial.values) for trial in tuned.study.trials],
        None if confirmed is None else (confirmed.seeds, confirmed.interval),
        sorted(path.name for path in folder.iterdir()),
    )


def storage(lab: Lab, overrides: tuple[str, ...]) -> Any:
    """Which storage Optuna is asked for: a database's own modules take seconds to import."""
    with patch("optuna.storages.get_storage", side_effect=str):
        return str(open_storage(lab.folder / "journal.log", lab.experiment(overrides)[0].tuning.storage)).split(" at ")[
            0
        ]


def _plain(values: Mapping[str, Any]) -> str:
    return re.sub(r" at 0x\w+", "", repr({k: v for k, v in values.items() if isinstance(v, int | float | str | None)}))


def seen(look: Look, lab: Lab, overrides: tuple[str, ...]) -> Any:
    """What a look sees, once; a refusal is seen, too."""
    if (look, overrides) not in lab.seen:
        try:
            lab.seen[look, overrides] = look(lab, overrides)
        except RaysimError as error:
            lab.seen[look, overrides] = f"refused: {re.sub(r'runs-[0-9]+', '', str(error))}"
    return lab.seen[look, overrides]
