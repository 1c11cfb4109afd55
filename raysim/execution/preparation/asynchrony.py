"""What is refused where the clients of a step start from different versions of the model, and why."""

from __future__ import annotations

from raysim.aggregation import Aggregation
from raysim.algorithms import Algorithm
from raysim.config import Experiment
from raysim.config.protection import NoProtectionConfig
from raysim.config.server import LearnedWeightsConfig
from raysim.config.systems import BaseAsynchronousConfig, FedAsyncConfig
from raysim.errors import ConfigError
from raysim.execution.clients.local_training import client_vectors
from raysim.execution.server.columns import UPDATE
from raysim.privacy.central import Gaussian


def check_asynchronous(experiment: Experiment, algorithm: Algorithm, aggregation: Aggregation) -> None:
    """Refuse what needs the clients of a step to start from the same version, in asynchronous timetables.

    Raises:
        ConfigError: names the key and the reason.
    """
    timetable = experiment.systems.timetable
    if not isinstance(timetable, BaseAsynchronousConfig):
        return
    _check_algorithm(experiment, algorithm, timetable)
    _check_aggregation(experiment, aggregation, timetable)
    fields = {field.name: field.size for field in algorithm.fields()}
    if isinstance(timetable, FedAsyncConfig) and fields.get(UPDATE) != algorithm.layout.size:
        raise ConfigError(
            f"systems.timetable: fedasync mixes the model with the client's, and {experiment.algorithm.name} sends "
            f"{', '.join(fields)} and no update of it; use fedbuff"
        )


def _check_algorithm(experiment: Experiment, algorithm: Algorithm, timetable: BaseAsynchronousConfig) -> None:
    name = experiment.algorithm.name
    where = f"systems.timetable: {timetable.name} lets clients start from different versions of the model, and"
    if algorithm.personal:
        raise ConfigError(f"{where} {name} keeps a model of each client's own, made from one of them; use another")
    if kept := [one.name for one in client_vectors(experiment, algorithm)]:
        raise ConfigError(
            f"{where} clients keep {kept[0]!r} from round to round ({name}, client.optimizer.state), while one may be "
            "out again before its last trip is in the model; use an algorithm without client state"
        )
    if algorithm.broadcast_state:
        raise ConfigError(
            f"{where} clients of {name} use {algorithm.broadcast_state[0]!r} of the server, which belongs to one of "
            "them; use another algorithm"
        )
    if experiment.algorithm.versions or any(field.kept for field in algorithm.fields()):
        raise ConfigError(f"{where} {name} puts products of what clients send into one frozen base; use fedit")


def _check_aggregation(experiment: Experiment, aggregation: Aggregation, timetable: BaseAsynchronousConfig) -> None:
    protection = experiment.aggregation.protection
    if not isinstance(protection, NoProtectionConfig):
        key, name = "aggregation.protection:", protection.name
        if timetable.updates == 1:
            raise ConfigError(
                f"{key} {name} hides addends in a sum, and the sum of one update is that update; remove it"
            )
        raise ConfigError(
            f"{key} the clients of a round agree on {name}, and here they train at different times; remove it"
        )
    if isinstance(experiment.aggregation.weights, LearnedWeightsConfig) and timetable.updates == 1:
        raise ConfigError("aggregation.weights: learned weights of one update are 1; use fedbuff")
    if aggregation.sends_model:
        raise ConfigError(
            f"aggregation.stages: downlink sends what a round changed, and with {timetable.name} clients "
            "have models of different ages; remove it"
        )
    for i, stage in enumerate(aggregation.stages):
        key = f"aggregation.stages[{i}]: {stage.label}"
        if stage.client_state():
            raise ConfigError(
                f"{key} keeps something of each client from round to round, and with {timetable.name} one may be out "
                "again before its last trip is in the model; remove it"
            )
        if stage.broadcast:
            raise ConfigError(
                f"{key} tells clients what belongs to one round, and with {timetable.name} those of a step start in "
                "several; remove it"
            )
        if isinstance(stage, Gaussian):
            _check_noise(experiment, key, timetable)
        elif stage.mechanism is not None or stage.fixed or stage.every_round:
            raise ConfigError(
                f"{key} is calibrated for cohorts that are drawn for a round, and with {timetable.name} the devices' "
                "speeds decide who contributes; use gaussian"
            )


def _check_noise(experiment: Experiment, key: str, timetable: BaseAsynchronousConfig) -> None:
    """Noise on each step protects a client as often as the schedule has it, if no data change the schedule."""
    if timetable.updates == 1:
        raise ConfigError(f"{key} hides a client among the others of a step, and this one has no others; raise buffer")
    if experiment.client.steps is None or experiment.systems.unit != "steps":
        raise ConfigError(
            f"{key} protects data that no trip's length depends on, or the schedule would tell of them; set "
            "client.steps, and systems.unit to steps"
        )
