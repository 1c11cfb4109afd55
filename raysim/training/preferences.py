"""Losses of pairs of answers, of which one is preferred.

Rafailov, Sharma, Mitchell, Ermon, Manning & Finn, "Direct Preference Optimization: Your Language Model is Secretly a
Reward Model", NeurIPS 2023, equation 7.
"""

from __future__ import annotations

import torch.nn.functional as F
from torch import Tensor


def log_probability(logits: Tensor, tokens: Tensor, counted: Tensor) -> Tensor:
    """log π(y | x) of answers, the sum over their tokens, `[n]`.

    Args:
        logits: of each position's token, `[n, length, vocabulary]`: those that the model gives one position before.
        tokens: `[n, length]`, int64.
        counted: which positions belong to the answer, bool `[n, length]`; the prompt and padding do not.
    """
    chosen = F.log_softmax(logits.float(), dim=-1).gather(-1, tokens.unsqueeze(-1)).squeeze(-1)
    return chosen.masked_fill(~counted, 0.0).sum(dim=-1)


def dpo(
    preferred: Tensor, other: Tensor, reference_preferred: Tensor, reference_other: Tensor, *, beta: float = 0.1
) -> Tensor:
    """-log σ(β ((log π(y⁺) - log π₀(y⁺)) - (log π(y⁻) - log π₀(y⁻)))) of each pair, `[n]`.

    Args:
        preferred, other: log-probabilities of both answers under the model that trains, `[n]`.
        reference_preferred, reference_other: under the reference model, such as the frozen base without its adapter.
        beta: how strongly the model is held near the reference model.
    """
    reward = (preferred - reference_preferred) - (other - reference_other)
    return -F.logsigmoid(beta * reward)
