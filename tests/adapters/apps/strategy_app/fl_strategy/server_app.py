"""FedAvg with a momentum of the server's, a learning rate that falls, and no evaluation on clients."""

from collections.abc import Iterable

import numpy as np
from flwr.app import Array, ArrayRecord, ConfigRecord, Context, Message, MetricRecord, RecordDict
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg

app = ServerApp()


class Momentum(FedAvg):
    """Moves on in the direction of earlier rounds."""

    def __init__(self, momentum, start):
        super().__init__(fraction_evaluate=0.0)
        self.momentum, self.weights, self.velocity = momentum, start, np.zeros_like(start)

    def configure_train(self, server_round: int, arrays: ArrayRecord, config: ConfigRecord, grid: Grid):
        """Halve the learning rate every second round."""
        if server_round > 1 and server_round % 2:
            config["lr"] *= 0.5
        return super().configure_train(server_round, arrays, config, grid)

    def aggregate_train(self, server_round: int, replies: Iterable[Message]):
        """The mean, with momentum."""
        arrays, metrics = super().aggregate_train(server_round, replies)
        if arrays is None:
            return arrays, metrics
        self.velocity = self.momentum * self.velocity + arrays["weights"].numpy() - self.weights
        self.weights = self.weights + self.velocity
        return ArrayRecord({"weights": Array(self.weights)}), metrics


@app.main()
def main(grid: Grid, context: Context) -> None:
    """Ask for sizes first, then train."""
    config = context.run_config
    asked = [Message(RecordDict(), node, "query") for node in grid.get_node_ids()]
    samples = [reply.content["metrics"]["samples"] for reply in grid.send_and_receive(asked)]
    start = np.full(4, 0.01 * sum(samples) / len(samples))
    strategy = Momentum(config["server.momentum"], start)
    strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord({"weights": Array(start)}),
        train_config=ConfigRecord({"lr": config["learning-rate"]}),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=lambda server_round, arrays: MetricRecord(
            {"error": float(np.abs(arrays["weights"].numpy() - np.arange(1.0, 5.0)).mean())}
        ),
    )
