"""The `evaluation.generate` section: text that the model writes, before training, after it, and on the way."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raysim.config.base import Section


class GenerateConfig(Section):
    """Text that the global model writes behind each prompt, in `generated.json` and the report.

    For language models on the source `corpus`, whose tokenizer reads the prompts and writes the text: of the first
    model and of the last, with the same random numbers. An answer to a prompt of instruction data or conversations is
    asked for as the data's template asks for it."""

    prompts: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], Field(min_length=1, max_length=100)]
    """Beginnings of texts."""
    tokens: int = Field(64, ge=1, le=100_000)
    """Tokens to write behind each prompt; the token that ends a text ends it earlier. Each costs a forward pass."""
    temperature: float = Field(0.8, ge=0, le=100)
    """Divides the logits before a token is drawn; 0 takes the likeliest token."""
    every: int = Field(0, ge=0)
    """Rounds between two texts; 0 is those of the first and the last model alone."""
