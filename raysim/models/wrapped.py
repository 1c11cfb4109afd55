"""Transformers with something of raysim's around them: a pooled output, trained embeddings before the sequence."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn

SOFT_PROMPT = "soft_prompt"


class Encoder(nn.Module):
    """A transformer without a head, the mean of its last hidden states over the tokens of a sample, a linear layer."""

    def __init__(self, backbone: Any, outputs: tuple[int, ...]) -> None:
        super().__init__()
        self.backbone, self.config = backbone, backbone.config
        size = backbone.config.get_text_config().hidden_size
        self.head = nn.Linear(size, outputs[-1] if outputs else 1)

    def forward(self, input_ids: Tensor, tokens: Tensor | None = None, **inputs: Any) -> Tensor:
        """Outputs `[n, outputs]`; `tokens` `[n, length]` says which positions are no padding."""
        hidden: Tensor = self.backbone(input_ids=input_ids, **inputs).last_hidden_state
        weight = hidden.new_ones(hidden.shape[:2]) if tokens is None else tokens.to(hidden.dtype)
        mean = (hidden * weight.unsqueeze(-1)).sum(1) / weight.sum(1, keepdim=True).clamp(min=1)
        found: Tensor = self.head(mean.to(self.head.weight.dtype))
        return found


class Prompted(nn.Module):
    """A transformer that sees trained embeddings before every sequence, and answers for the sequence alone.

    Lester, Al-Rfou & Constant, "The Power of Scale for Parameter-Efficient Prompt Tuning", EMNLP 2021. They begin as
    embeddings of tokens of the vocabulary, drawn at random.
    """

    def __init__(self, backbone: Any, length: int) -> None:
        super().__init__()
        self.backbone, self.config, self.length = backbone, backbone.config, length
        embeddings: Tensor = backbone.get_input_embeddings().weight
        chosen = torch.randint(len(embeddings), (length,), device="cpu").to(embeddings.device)
        self.soft_prompt = nn.Parameter(embeddings.detach()[chosen].to(torch.float32))

    def forward(self, input_ids: Tensor, **inputs: Any) -> Any:
        """What the transformer returns; logits for each position are those of the sequence.

        The attention mask has the prompt's positions already.
        """
        own = self.backbone.get_input_embeddings()(input_ids)
        prompt = self.soft_prompt.to(own.dtype).expand(own.shape[0], -1, -1)
        found = self.backbone(inputs_embeds=torch.cat([prompt, own], 1), **inputs)
        logits: Tensor = found.logits
        return logits[:, self.length :] if logits.ndim == 3 else logits
