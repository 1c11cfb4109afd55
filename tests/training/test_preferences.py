"""The loss of preference pairs against the formula, on plain tensors."""

from __future__ import annotations

import math

import numpy as np
import torch

from raysim.models.preferring import log_probability
from raysim.training.losses import dpo


def draw(*shape: int, seed: int) -> torch.Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(seed))


def test_only_the_answers_tokens_count() -> None:
    logits, tokens = draw(3, 5, 7, seed=0), torch.randint(7, (3, 5), generator=torch.Generator().manual_seed(1))
    counted = torch.tensor([[0, 0, 1, 1, 1], [0, 1, 1, 0, 0], [0, 0, 0, 0, 0]], dtype=torch.bool)
    expected = [
        sum(
            float(logits[i, t, tokens[i, t]]) - math.log(sum(math.exp(float(one)) for one in logits[i, t]))
            for t in range(5)
            if counted[i, t]
        )
        for i in range(3)
    ]
    np.testing.assert_allclose(log_probability(logits, tokens, counted).numpy(), expected, atol=1e-5)


def test_a_pair_costs_what_the_formula_says() -> None:
    ahead, better = 10 * draw(50, 2, seed=0), torch.arange(50) % 3 // 2
    plain = ahead.double().numpy()
    margin = 0.3 * np.where(better.numpy() == 0, plain[:, 0] - plain[:, 1], plain[:, 1] - plain[:, 0])
    np.testing.assert_allclose(dpo(ahead, better, beta=0.3).numpy(), np.log1p(np.exp(-margin)), rtol=1e-5, atol=1e-6)


def test_the_reference_model_itself_costs_log_2_and_is_drawn_to_the_preferred_answer() -> None:
    output = torch.zeros(4, 2, requires_grad=True)
    losses = dpo(output, torch.zeros(4, dtype=torch.int64), beta=0.2)
    torch.testing.assert_close(losses, torch.full((4,), math.log(2)))
    (slope,) = torch.autograd.grad(losses.sum(), output)
    torch.testing.assert_close(slope, torch.tensor([[-0.1, 0.1]]).expand(4, 2))  # β σ(0)
