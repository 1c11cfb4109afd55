"""Least squares on data that are a function of the partition; a client counts its messages in its state."""

import os

import numpy as np
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

app = ClientApp()


def data_of(partition):
    """Inputs and targets of a partition."""
    generator = np.random.default_rng(partition)
    x = generator.normal(size=(20 + 5 * partition, 4))
    return x, x @ np.arange(1.0, 5.0) + 0.1 * generator.normal(size=len(x)) + partition


@app.train()
def train(msg: Message, context: Context):
    """Gradient steps from the global weights."""
    partition = context.node_config["partition-id"]
    kept = context.state["kept"] if "kept" in context.state else MetricRecord({"messages": 0})
    count = kept["messages"]
    context.state["kept"] = MetricRecord({"messages": count + 1})
    if context.run_config["raising"] == partition:
        raise RuntimeError(f"partition {partition} is broken")
    once = context.run_config["die-once"]
    if once and partition == 1 and count == 1 and not os.path.exists(once):
        open(once, "w").close()
        os._exit(1)
    x, y = data_of(partition)
    weights = msg.content["arrays"]["weights"].numpy()
    for _ in range(5):
        weights = weights - msg.content["config"]["lr"] * x.T @ (x @ weights - y) / len(x)
    loss = float(np.mean((x @ weights - y) ** 2))
    metrics = MetricRecord({"loss": loss, "messages": count + 1, "num-examples": len(x)})
    arrays = ArrayRecord({"weights": _array(weights)})
    return Message(RecordDict({"arrays": arrays, "metrics": metrics}), reply_to=msg)


@app.query()
def query(msg: Message, context: Context):
    """How many samples there are, and a number that is drawn."""
    x, _ = data_of(context.node_config["partition-id"])
    drawn = float(np.random.random())  # noqa: NPY002  # the generator that an app may use
    return Message(RecordDict({"metrics": MetricRecord({"samples": len(x), "drawn": drawn})}), reply_to=msg)


def _array(values):
    from flwr.app import Array

    return Array(np.asarray(values))
