"""The clients."""

import torch
from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_torch.task import Net, load_data
from fl_torch.task import test as test_fn
from fl_torch.task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """An epoch on the partition."""
    net = Net()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    partition, partitions = context.node_config["partition-id"], context.node_config["num-partitions"]
    if context.run_config["fixed-seed"]:
        torch.manual_seed(1000 * msg.content["config"]["server-round"] + partition)
    loader, _ = load_data(partition, partitions, context.run_config["batch-size"])
    loss = train_fn(net, loader, context.run_config["local-epochs"], msg.content["config"]["lr"])
    metrics = MetricRecord({"train_loss": loss, "num-examples": len(loader.dataset)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)


@app.evaluate()
def evaluate(msg: Message, context: Context):
    """The global model on the partition's own test part."""
    net = Net()
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    partition, partitions = context.node_config["partition-id"], context.node_config["num-partitions"]
    _, loader = load_data(partition, partitions, context.run_config["batch-size"])
    loss, accuracy = test_fn(net, loader)
    metrics = MetricRecord({"eval_loss": loss, "eval_acc": accuracy, "num-examples": len(loader.dataset)})
    return Message(content=RecordDict({"metrics": metrics}), reply_to=msg)
