"""The server: a classic strategy."""

from flwr.app import Context
from flwr.common import ndarrays_to_parameters
from flwr.server import ServerAppComponents, ServerConfig
from flwr.server.strategy import FedAvg
from flwr.serverapp import ServerApp

from fl_sklearn.task import model_of, weights_of


def weighted_average(metrics):
    """Accuracy over all test samples."""
    total = sum(count for count, _ in metrics)
    return {"accuracy": sum(count * values["accuracy"] for count, values in metrics) / total}


def server_fn(context: Context):
    """FedAvg over all clients."""
    strategy = FedAvg(
        min_available_clients=2,
        evaluate_metrics_aggregation_fn=weighted_average,
        on_fit_config_fn=lambda server_round: {"penalty": 1.0 / server_round},
        initial_parameters=ndarrays_to_parameters(weights_of(model_of(1))),
    )
    return ServerAppComponents(
        strategy=strategy, config=ServerConfig(num_rounds=context.run_config["num-server-rounds"])
    )


app = ServerApp(server_fn=server_fn)
