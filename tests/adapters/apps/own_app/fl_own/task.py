"""Model, data, partition, training and evaluation."""

from functools import lru_cache

import numpy as np
import torch
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


def model():
    """The model."""
    return nn.Sequential(nn.Linear(16, 32), nn.ReLU(), nn.Linear(32, 10))


@lru_cache
def data():
    """Training and test set."""
    x = np.random.default_rng(0).normal(size=(10_000, 16)).astype(np.float32)
    y = x[:, :10].argmax(axis=1)
    return (x[2000:], y[2000:]), (x[:2000], y[:2000])


@lru_cache
def owners(clients):
    """The owner of each training sample: shares of each class are drawn from a Dirichlet distribution."""
    generator = np.random.default_rng(0)
    labels = data()[0][1]
    owner = np.empty(len(labels), np.int64)
    for label in np.unique(labels):
        rows = generator.permutation(np.flatnonzero(labels == label))
        shares = generator.dirichlet(np.full(clients, 0.3))
        cuts = (np.cumsum(shares)[:-1] * len(rows)).astype(int)
        for client, part in enumerate(np.split(rows, cuts)):
            owner[part] = client
    return owner


def loader(partition, partitions, batch_size):
    """Batches of a client."""
    (x, y), _ = data()
    rows = owners(partitions) == partition
    samples = TensorDataset(torch.from_numpy(x[rows]), torch.from_numpy(y[rows]))
    return DataLoader(samples, batch_size=batch_size, shuffle=bool(rows.any()))


def train(net, batches, epochs, lr):
    """SGD; the mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr)
    total, steps = 0.0, 0
    for _ in range(epochs):
        for x, y in batches:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total, steps = total + loss.item(), steps + 1
    return total / max(1, steps)


def test(net):
    """Loss and accuracy on the test set."""
    x, y = map(torch.from_numpy, data()[1])
    with torch.no_grad():
        out = net(x)
    return functional.cross_entropy(out, y).item(), (out.argmax(1) == y).float().mean().item()
