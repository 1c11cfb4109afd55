"""The network, its data, a local epoch and an evaluation."""

from functools import lru_cache

import torch
from sklearn.datasets import load_digits
from torch import nn
from torch.nn import functional
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    """One convolution and two layers, for 8 × 8 pictures."""

    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 8, 3, padding=1)
        self.hidden = nn.Linear(8 * 16, 32)
        self.out = nn.Linear(32, 10)

    def forward(self, x):
        x = functional.max_pool2d(functional.relu(self.conv(x)), 2)
        return self.out(functional.relu(self.hidden(x.flatten(1))))


@lru_cache
def digits():
    """All pictures and labels; the last 297 are the server's."""
    data = load_digits()
    x = torch.tensor(data.images, dtype=torch.float32).unsqueeze(1) / 16
    return x, torch.tensor(data.target)


def load_data(partition_id, num_partitions, batch_size):
    """Training and validation batches of a partition."""
    x, y = digits()
    rows = torch.arange(partition_id, 1500, num_partitions)
    cut = int(0.8 * len(rows))
    train, test = (TensorDataset(x[part], y[part]) for part in (rows[:cut], rows[cut:]))
    return DataLoader(train, batch_size=batch_size, shuffle=True), DataLoader(test, batch_size=64)


def train(net, loader, epochs, lr):
    """Train with SGD; the mean loss."""
    optimizer = torch.optim.SGD(net.parameters(), lr=lr, momentum=0.9)
    net.train()
    total = 0.0
    for _ in range(epochs):
        for x, y in loader:
            optimizer.zero_grad()
            loss = functional.cross_entropy(net(x), y)
            loss.backward()
            optimizer.step()
            total += loss.item()
    return total / (epochs * len(loader))


def test(net, loader):
    """Mean loss and accuracy."""
    net.eval()
    loss, correct, seen = 0.0, 0, 0
    with torch.no_grad():
        for x, y in loader:
            out = net(x)
            loss += functional.cross_entropy(out, y, reduction="sum").item()
            correct += (out.argmax(1) == y).sum().item()
            seen += len(y)
    return loss / seen, correct / seen
