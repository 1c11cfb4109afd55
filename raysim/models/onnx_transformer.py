"""A transformer of the Hugging Face library as other programs call it: token ids and a mask to one tensor."""

from __future__ import annotations

from dataclasses import replace

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.data.inputs import InputField
from raysim.models.outputs import one_tensor
from raysim.models.transformer_inputs import (
    IDS,
    MASK,
    POSITIONS,
    TransformerInputs,
    attention_mask,
    backbone_config,
    sequence_length,
)
from raysim.models.wrapped import Encoder


class OnnxTransformer(nn.Module):
    """Takes token ids and a mask, and gives the model what it is given in training: positions, and a mask of scores.

    Attributes:
        longest: tokens that a sequence may have: as many as the model has positions for, or where nothing limits them
            those of a training sample.
    """

    def __init__(self, model: nn.Module, info: DataInfo) -> None:
        """Of a model that was trained on such data.

        Raises:
            ModelError: no mask could keep padding apart in this family.
        """
        super().__init__()
        length = sequence_length(info, type(model).__name__)
        fields = (InputField(IDS, "tokens", (length,)), InputField(MASK, "flags", (length,)))
        self.model = model
        self._inputs = TransformerInputs.of(model, replace(info, input_kind="record", inputs=fields))
        self._classes = info.classes
        limits = [getattr(backbone_config(model), key, None) for key in ("max_position_embeddings", "sliding_window")]
        known = [one for one in limits if isinstance(one, int) and one > 0]
        self.longest = min(known) - self._inputs.prefix - self._inputs.first if known else length

    def forward(self, input_ids: Tensor, mask: Tensor) -> Tensor:
        """Outputs, of which there are as many as classes.

        Args:
            input_ids: int64 `[batch, length]`.
            mask: int64 `[batch, length]`, 0 for padding, which comes last.
        """
        causal, prefix = self._inputs.causal, self._inputs.prefix
        there = mask.to(torch.bool)
        dtype = next(one.dtype for one in self.model.parameters() if one.is_floating_point())
        given = {IDS: input_ids, MASK: attention_mask(input_ids, there, None, prefix, causal=causal, dtype=dtype)}
        if isinstance(self.model, Encoder):
            given["tokens"] = there
        if causal:
            place = torch.arange(input_ids.shape[1] + prefix, device=input_ids.device) + self._inputs.first
            given[POSITIONS] = place.expand(input_ids.shape[0], input_ids.shape[1] + prefix)
        found = self.model(**given, **({"use_cache": False} if causal else {}), return_dict=True)
        output: Tensor = found if isinstance(found, Tensor) else one_tensor(found)
        return output if self._classes is None else output[..., : self._classes]
