"""The clients."""

from flwr.app import ArrayRecord, Context, Message, MetricRecord, RecordDict
from flwr.clientapp import ClientApp

from fl_own.task import loader, model
from fl_own.task import train as train_fn

app = ClientApp()


@app.train()
def train(msg: Message, context: Context):
    """Local epochs."""
    net, config = model(), context.run_config
    net.load_state_dict(msg.content["arrays"].to_torch_state_dict())
    node = context.node_config
    batches = loader(node["partition-id"], node["num-partitions"], config["batch-size"])
    loss = train_fn(net, batches, config["local-epochs"], config["learning-rate"])
    metrics = MetricRecord({"loss": loss, "num-examples": len(batches.dataset)})
    content = RecordDict({"arrays": ArrayRecord(net.state_dict()), "metrics": metrics})
    return Message(content=content, reply_to=msg)
