"""The loss of preference pairs against the formula, on plain tensors."""

from __future__ import annotations

import math

import numpy as np
import torch

from raysim.training.preferences import dpo, log_probability


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
    preferred, other, reference_preferred, reference_other = (10 * draw(50, seed=seed) for seed in range(4))
    margin = 0.3 * ((preferred - reference_preferred) - (other - reference_other)).double().numpy()
    found = dpo(preferred, other, reference_preferred, reference_other, beta=0.3)
    np.testing.assert_allclose(found.numpy(), np.log1p(np.exp(-margin)), rtol=1e-5, atol=1e-6)


def test_the_reference_model_itself_costs_log_2_and_is_drawn_to_the_preferred_answer() -> None:
    preferred, other = draw(4, seed=0).requires_grad_(), draw(4, seed=1).requires_grad_()
    losses = dpo(preferred, other, preferred.detach(), other.detach(), beta=0.2)
    torch.testing.assert_close(losses, torch.full((4,), math.log(2)))
    up, down = torch.autograd.grad(losses.sum(), (preferred, other))
    torch.testing.assert_close(up, torch.full((4,), -0.1))  # β σ(0)
    torch.testing.assert_close(down, torch.full((4,), 0.1))
