"""The `evaluation.fine_tune` section: what clients do with the model before they use it."""

from __future__ import annotations

from typing import Annotated

from pydantic import Field

from raysim.config.base import Section


class FineTuneConfig(Section):
    """Some steps of plain SGD from the client's model, on its training part; the model itself stays as it is."""

    epochs: int = Field(1, ge=1)
    """Passes over the client's training part (unless `steps` is given)."""
    steps: int | None = Field(None, ge=1)
    """Steps, whatever the client's size; replaces `epochs`."""
    lr: float | None = Field(None, ge=0)
    """Learning rate; by default `client.optimizer.lr`."""
    layers: Annotated[tuple[str, ...], Field(min_length=1)] | None = None
    """Names of the parameters and buffers that change, with `*`: `["head.*", "*.bias"]`; by default all."""
