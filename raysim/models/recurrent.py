"""The character LSTM of the field's Shakespeare experiments.

McMahan et al. 2017, "Communication-Efficient Learning of Deep Networks from Decentralized Data", section 3;
Reddi et al. 2021, "Adaptive Federated Optimization".
"""

from __future__ import annotations

from torch import Tensor, nn

from raysim.config.model import LstmCharConfig
from raysim.data.federation import DataInfo
from raysim.errors import ModelError


class CharacterLstm(nn.Module):
    """Embedding, stacked LSTM, linear: `[n, length]` token ids to `[n, length, classes]`.

    With `last_only` the prediction at the last position alone, `[n, classes]`.
    """

    def __init__(
        self, vocabulary: int, classes: int, *, embedding: int, hidden: int, layers: int, last_only: bool
    ) -> None:
        super().__init__()
        self.embedding = nn.Embedding(vocabulary, embedding)
        self.lstm = nn.LSTM(embedding, hidden, layers, batch_first=True)
        self.output = nn.Linear(hidden, classes)
        self.last_only = last_only

    def forward(self, x: Tensor) -> Tensor:
        states, _ = self.lstm(self.embedding(x))
        logits: Tensor = self.output(states[:, -1] if self.last_only else states)
        return logits


def lstm_char(config: LstmCharConfig, info: DataInfo, outputs: tuple[int, ...]) -> nn.Module:
    """Stacked character LSTM: a prediction for every position, or for the one after the text.

    Raises:
        ModelError: the samples are no token sequences, or the targets are neither one a position nor one a sample.
    """
    if info.input_kind != "tokens" or info.vocabulary is None or len(info.input_shape) != 1:
        raise ModelError(
            f"model {config.name} takes sequences of tokens, but the samples are {info.input_kind} of shape "
            f"{info.input_shape}; use data.source: text"
        )
    if info.classes is None or outputs not in ((*info.input_shape, info.classes), (info.classes,)):
        raise ModelError(
            f"model {config.name} predicts a class for every position or one after the text, but should give outputs "
            f"of shape {outputs}; use training.loss: cross_entropy and token targets"
        )
    return CharacterLstm(
        info.vocabulary,
        info.classes,
        embedding=config.embedding,
        hidden=config.hidden,
        layers=config.layers,
        last_only=len(outputs) == 1,
    )
