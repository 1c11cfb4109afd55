"""What a transformer of the Hugging Face library is given: ids, positions, and an attention mask made here.

The library would look at the values of a mask to find out what it can leave out, which cannot be captured, and waits
for a GPU. So a mask, where one is needed at all, comes as `[n, 1, queries, keys]`.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from raysim.arrays import Int64
from raysim.data.federation import DataInfo
from raysim.data.inputs import InputField
from raysim.errors import ModelError
from raysim.models.inputs import take_inputs
from raysim.models.wrapped import Encoder, Prompted

MASK, SEGMENTS, IDS, POSITIONS = "attention_mask", "segments", "input_ids", "position_ids"
TYPES = "token_type_ids"
_CAUSAL = ("ForCausalLM", "LMHeadModel")
_LIBRARY = ("transformers.", "peft.")


def is_transformer(module: nn.Module) -> bool:
    """Whether a module is a model of `transformers`, or one that `peft` has changed."""
    if isinstance(module, Encoder | Prompted):
        return True
    names = {f"{one.__module__}.{one.__name__}" for one in type(module).__mro__}
    if not any(name.startswith(_LIBRARY) and name.endswith((".PreTrainedModel", ".PeftModel")) for name in names):
        return False
    return (
        getattr(inner_model(module), "main_input_name", IDS) == IDS
    )  # a model of images is called as any other module


def inner_model(module: Any) -> Any:
    """The model of `transformers` in one that `peft` has changed."""
    return module.get_base_model() if hasattr(module, "get_base_model") else module


def backbone_config(module: Any) -> Any:
    """The `transformers` configuration of a model, also of one that `peft` has changed."""
    return inner_model(module).config.get_text_config()


TRIED = {
    "for texts to continue": "gpt2, gpt_neo, gpt_neox, gptj, llama, mistral, mixtral, qwen2, qwen3, gemma, gemma2, "
    "phi, phi3, opt, falcon, olmo, granite, smollm3",
    "for texts to classify": "bert, roberta, xlm-roberta, camembert, distilbert, albert, electra, mpnet, mobilebert, "
    "convbert, ernie, big_bird, modernbert",
}
"""Families whose logits are those of the library, whatever is padding: tests/models/test_families.py."""
_WITHOUT_MASKS = ("fnet", "mamba2", "nystromformer")
"""Families that would mix what masks are to keep apart, without an error."""
_MULTIPLE = 8
"""Sequences are cut to a multiple of it, which suits matrix units."""


def cut_length(longest: Int64, length: int) -> Int64:
    """To how many tokens batches of sequences of `length` are cut, given the longest of each."""
    found: Int64 = np.minimum(-(-np.maximum(longest, 1) // _MULTIPLE) * _MULTIPLE, length)
    return found


def unsupported(module: nn.Module) -> str | None:
    """That a model's family is not one of those that were tried, and which these are; None where it is."""
    family, tried = backbone_config(module).model_type, ", or ".join(f"{what} {names}" for what, names in TRIED.items())
    return None if family in re.split(r"[ ,]+", tried) else f"the family {family} is not supported; use {tried}"


@dataclass(frozen=True, slots=True)
class TransformerInputs:
    """A hook before the forward pass.

    Attributes:
        inputs: of a record; empty where a sample is token ids alone.
        causal: whether a position attends to none after it.
        prefix: positions before the sequence that every position attends to.
        explicit: whether mask and positions are always given, so that nothing is left to be looked up.
        first: the number of the first position (RoBERTa's begin behind that of padding).
        cut: whether a batch is cut to its longest sequence, by its mask (padding comes last).
    """

    inputs: tuple[InputField, ...]
    causal: bool
    prefix: int = 0
    explicit: bool = False
    first: int = 0
    cut: bool = False

    @classmethod
    def of(cls, module: nn.Module, info: DataInfo, *, cut: bool = False) -> TransformerInputs:
        """For a model on samples like these.

        Raises:
            ModelError: the samples have no token ids, ids beyond the model's vocabulary, or are longer than its
                positions; or the model is an encoder with a decoder.
        """
        config, name = backbone_config(module), type(module).__name__
        length, prefix = sequence_length(info, name), module.length if isinstance(module, Prompted) else 0
        if getattr(config, "is_encoder_decoder", False):
            raise ModelError(f"model {name}: encoder-decoder models are not supported; use a decoder or an encoder")
        vocabulary = getattr(config, "vocab_size", None)
        if vocabulary is not None and info.vocabulary is not None and info.vocabulary > vocabulary:
            raise ModelError(
                f"model {name}: its vocabulary has {vocabulary:,} tokens, the data's tokenizer {info.vocabulary:,}; "
                "tokenise the data with the model's own tokenizer"
            )
        if config.model_type in _WITHOUT_MASKS and {MASK, SEGMENTS} & {one.name for one in info.inputs}:
            raise ModelError(f"model {name}: {unsupported(module)} (it has no attention that a mask could part)")
        first = _first_position(module)
        for key in ("max_position_embeddings", "sliding_window"):
            limit = getattr(config, key, None)
            if isinstance(limit, int) and 0 < limit < length + prefix + first * (key != "sliding_window"):
                what = "positions" if key == "max_position_embeddings" else "positions in its sliding window"
                raise ModelError(
                    f"model {name}: it has {limit:,} {what}, the data's sequences are {length + prefix:,} long; make "
                    "them shorter (the source's length)"
                )
        causal = any(getattr(one, "is_causal", False) is True for one in module.modules())
        if type(inner_model(getattr(module, "backbone", module))).__name__.endswith(_CAUSAL) and not causal:
            remedy = unsupported(module) or "use a decoder"
            if getattr(config, "is_decoder", True) is False:  # an encoder that can be told to be one
                remedy = "set is_decoder: true in model.config, or use a decoder such as gpt2"
            raise ModelError(
                f"model {name}: its attention is not known to be causal, so that a position might see the token that "
                f"it predicts; {remedy}"
            )
        explicit = getattr(config, "_attn_implementation", "") == "eager"
        return cls(info.inputs, causal, prefix, explicit, first, cut)

    def __call__(
        self, module: nn.Module, args: tuple[Any, ...], kwargs: dict[str, Any]
    ) -> tuple[tuple[Any, ...], dict[str, Any]]:
        given: dict[str, Any] = dict(take_inputs(args[0], self.inputs)) if self.inputs else {IDS: args[0]}
        if self.cut and not given[IDS].is_meta:
            given = _cut(given)
        ids, mask, segments = given[IDS], given.pop(MASK, None), given.pop(SEGMENTS, None)
        if isinstance(module, Encoder):
            given["tokens"] = mask
        explicit = self.explicit or ids.is_meta  # where there are no values to look at
        if mask is not None or segments is not None or self.prefix or explicit or not self.causal:
            dtype = next(one.dtype for one in module.parameters() if one.is_floating_point())
            given[MASK] = attention_mask(ids, mask, segments, self.prefix, causal=self.causal, dtype=dtype)
        if self.causal and POSITIONS not in given and MASK in given:
            given[POSITIONS] = self._positions(ids, segments)
        elif POSITIONS in given and self.prefix:
            before = torch.arange(self.prefix, device=ids.device).expand(len(ids), self.prefix)
            given[POSITIONS] = torch.cat([before, given[POSITIONS] + self.prefix], 1)
        if self.prefix and TYPES in given:  # the prompt is of the kind that the sequence begins with
            kinds = given[TYPES]
            given[TYPES] = torch.cat([kinds[..., :1].expand(len(kinds), self.prefix), kinds], -1)
        if self.causal:
            given["use_cache"] = False
        return (), {**given, "return_dict": True}

    def _positions(self, ids: Tensor, segments: Tensor | None) -> Tensor:
        """Of each token in its document, behind the prefix."""
        length = ids.shape[-1] + self.prefix
        place = torch.arange(length, device=ids.device).expand(len(ids), length)
        if segments is not None:
            begins = torch.ones_like(segments, dtype=torch.bool)
            begins[..., 1:] = segments[..., 1:] != segments[..., :-1]
            own = place[..., self.prefix :]
            start = torch.where(begins, own - self.prefix, 0).cummax(-1).values
            place = torch.cat([place[..., : self.prefix], own - start], -1)
        return place + self.first


def _cut(given: dict[str, Any]) -> dict[str, Any]:
    """Inputs without the positions that are padding in all sequences of the batch."""
    length = given[IDS].shape[-1]
    used = given[MASK].any(0).nonzero()
    longest = cut_length(np.array(int(used.max()) + 1 if len(used) else 0), length)
    return {name: one[..., : int(longest)] if one.shape[-1] == length else one for name, one in given.items()}


def attention_mask(
    ids: Tensor, mask: Tensor | None, segments: Tensor | None, prefix: int = 0, *, causal: bool, dtype: torch.dtype
) -> Tensor:
    """What is added to attention scores: 0 where a query may attend to a key, the least number elsewhere.

    A position attends to the keys of its own segment that are no padding, to the prefix, and always to itself, so that
    no row is empty. The prefix attends to itself, and to all tokens unless that is against causality.

    Args:
        ids: `[n, length]`, for shape and device.
        mask: `[n, length]` bool, whether a position is a token; None is everywhere.
        segments: `[n, length]`, the document that a position belongs to; None is one for all.
        prefix: positions before the sequence.

    Returns:
        `[n, 1, prefix + length, prefix + length]`.
    """
    length = ids.shape[-1]
    query, key = torch.arange(length, device=ids.device)[:, None], torch.arange(length, device=ids.device)
    allowed = (query >= key) if causal else torch.ones((length, length), dtype=torch.bool, device=ids.device)
    allowed = allowed.expand(*ids.shape[:-1], length, length)
    if mask is not None:
        allowed = allowed & mask[..., None, :]
    if segments is not None:
        allowed = allowed & (segments[..., :, None] == segments[..., None, :])
    allowed = allowed | (query == key)
    if prefix:
        allowed = nn.functional.pad(allowed, (prefix, 0, 0, 0), value=True)  # every query sees the prefix
        allowed = nn.functional.pad(allowed, (0, 0, prefix, 0), value=False)
        place = torch.arange(prefix + length, device=ids.device)
        within = (place[:, None] < prefix) & (place < prefix)
        if causal:
            allowed = allowed | (within & (place[:, None] >= place))
        else:  # the prefix sees every token
            there = torch.ones_like(ids, dtype=torch.bool) if mask is None else mask
            there = nn.functional.pad(there, (prefix, 0), value=True)
            allowed = allowed | ((place[:, None] < prefix) & there[..., None, :])
    return torch.where(allowed, 0.0, torch.finfo(dtype).min).to(dtype).unsqueeze(-3)


def _first_position(module: nn.Module) -> int:
    """The number of the first position, by the table of positions."""
    for name, one in module.named_modules():
        if name.endswith("position_embeddings") and isinstance(one, nn.Embedding) and one.padding_idx is not None:
            return one.padding_idx + 1
    return 0


def sequence_length(info: DataInfo, name: str) -> int:
    """Tokens of a sample.

    Raises:
        ModelError: samples are no sequences of token ids.
    """
    shapes = {field.name: field.shape for field in info.inputs}
    shape = info.input_shape if info.input_kind == "tokens" else shapes.get(IDS)
    if shape is None or len(shape) != 1:
        raise ModelError(
            f"model {name} takes sequences of token ids, but the samples are {info.input_kind} of shape "
            f"{info.input_shape}; use a text source, or give x as {{'input_ids': …}}"
        )
    return shape[0]
