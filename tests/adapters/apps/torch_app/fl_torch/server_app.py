"""The server."""

import torch
from flwr.app import ArrayRecord, ConfigRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch.utils.data import DataLoader, TensorDataset

from fl_torch.task import Net, digits
from fl_torch.task import test as test_fn

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """FedAvg from a fixed model."""
    config = context.run_config
    torch.manual_seed(7)
    arrays = ArrayRecord(Net().state_dict())
    strategy = FedAvg(fraction_evaluate=config["fraction-evaluate"])
    strategy.start(
        grid=grid,
        initial_arrays=arrays,
        train_config=ConfigRecord({"lr": config["learning-rate"]}),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=global_evaluate,
    )


def global_evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
    """The model on the server's pictures."""
    net = Net()
    net.load_state_dict(arrays.to_torch_state_dict())
    x, y = digits()
    loss, accuracy = test_fn(net, DataLoader(TensorDataset(x[1500:], y[1500:]), batch_size=100))
    return MetricRecord({"loss": loss, "accuracy": accuracy})
