"""The clients: a NumPyClient."""

import warnings

from flwr.app import Context
from flwr.client import NumPyClient
from flwr.clientapp import ClientApp
from sklearn.metrics import log_loss

from fl_sklearn.task import load_data, model_of, set_weights, weights_of


class FlowerClient(NumPyClient):
    """Trains on a partition."""

    def __init__(self, model, data):
        self.model, self.data = model, data

    def fit(self, parameters, config):
        """Go on from the global weights."""
        set_weights(self.model, parameters)
        x, y, _, _ = self.data
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # a few iterations do not converge
            self.model.fit(x, y)
        return weights_of(self.model), len(x), {"penalty": config["penalty"]}

    def evaluate(self, parameters, config):
        """The global weights on the test part."""
        set_weights(self.model, parameters)
        _, _, x, y = self.data
        loss = log_loss(y, self.model.predict_proba(x), labels=[0, 1])
        return loss, len(x), {"accuracy": self.model.score(x, y)}


def client_fn(context: Context):
    """The client of a partition."""
    partition, partitions = context.node_config["partition-id"], context.node_config["num-partitions"]
    data = load_data(partition, partitions)
    return FlowerClient(model_of(context.run_config["local-epochs"]), data).to_client()


app = ClientApp(client_fn=client_fn)
