"""What the `client` section asks for and an algorithm has not is refused in one line, before anything starts."""

from __future__ import annotations

import pytest
from plain_federation import Run, experiment_of

from raysim.algorithms import build_algorithm
from raysim.errors import ConfigError
from raysim.execution.clients.local_training import check_client


@pytest.mark.parametrize(
    ("algorithm", "overrides", "line"),
    [
        ("fedsgd", ["client.groups=[{match: ['*'], lr_scale: 2}]"], "client.groups: fedsgd does not move weights"),
        ("fedavg", ["client.groups=[{match: ['gain']}]"], "client.groups.0.match: 'gain' matches no trainable"),
        ("fedavg", ["client.schedule=steps"], "client.schedule: with client.epochs, clients of unequal size take"),
        (
            "ditto",
            ["client.optimizer=@kept"],
            "client.optimizer.state: ditto trains 2 times in a round, each time anew",
        ),
        ("apfl", ["client.optimizer=@kept"], "client.optimizer.state: apfl has no local optimiser; set it to reset"),
    ],
)
def test_what_an_algorithm_has_not_is_refused(algorithm: str, overrides: list[str], line: str) -> None:
    kept = "{name: sgd, momentum: 0.9, state: keep}"
    experiment = experiment_of(algorithm, *(one.replace("@kept", kept) for one in overrides))
    layout = Run(experiment_of("fedavg")).executor.worker.algorithm.layout
    with pytest.raises(ConfigError) as caught:
        check_client(experiment, build_algorithm(experiment.algorithm, layout))
    assert str(caught.value).startswith(line)
    assert "\n" not in str(caught.value)
