"""The server."""

from flwr.app import ArrayRecord, Context, MetricRecord
from flwr.serverapp import Grid, ServerApp
from flwr.serverapp.strategy import FedAvg
from torch.utils.tensorboard import SummaryWriter

from fl_own.task import model, test

app = ServerApp()


@app.main()
def main(grid: Grid, context: Context) -> None:
    """FedAvg, followed in TensorBoard."""
    config = context.run_config
    writer = SummaryWriter(config["log-to"])

    def evaluate(server_round: int, arrays: ArrayRecord) -> MetricRecord:
        net = model()
        net.load_state_dict(arrays.to_torch_state_dict())
        loss, accuracy = test(net)
        writer.add_scalar("test/loss", loss, server_round)
        writer.add_scalar("test/accuracy", accuracy, server_round)
        return MetricRecord({"loss": loss, "accuracy": accuracy})

    strategy = FedAvg(fraction_train=config["fraction-train"], fraction_evaluate=0.0)
    result = strategy.start(
        grid=grid,
        initial_arrays=ArrayRecord(model().state_dict()),
        num_rounds=config["num-server-rounds"],
        evaluate_fn=evaluate,
    )
    for server_round, metrics in result.train_metrics_clientapp.items():
        writer.add_scalar("train/loss", metrics["loss"], server_round)
    writer.close()
