"""`model: {name: hugging_face, …}`: transformers, from a folder, a hub or a configuration, whole or with adapters."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, Section
from raysim.config.bounds import UNITS, Arguments

TransformerTask = Literal["causal_lm", "sequence_classification", "token_classification", "encoder"]
Names = tuple[Annotated[str, Field(min_length=1)], ...]


class LoraConfig(Section):
    """Low-rank adapters W + s·BA with s = alpha / r (Hu et al., "LoRA", ICLR 2022)."""

    name: Literal["lora"] = "lora"
    r: int = Field(8, ge=1, le=UNITS)
    """Rank."""
    alpha: float = Field(16.0, gt=0)
    """Scale of the adapters: s = alpha / r."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout of the adapters' input."""
    targets: Names | None = None
    """Ends of the names of the layers that get adapters (`q_proj`); by default those that peft knows for the model."""
    rank_stabilised: bool = False
    """s = alpha / √r instead (Kalajdzievski 2023)."""


class Ia3Config(Section):
    """Learned scales of keys, values and feed-forward activations (Liu et al. 2022, (IA)³)."""

    name: Literal["ia3"] = "ia3"
    targets: Names | None = None
    """Ends of the names of the layers that are scaled; by default those that peft knows for the model."""
    feedforward: Names | None = None
    """Those of them whose input is scaled instead of their output."""


class SoftPromptConfig(Section):
    """Trained embeddings before every sequence (Lester et al., "The Power of Scale", EMNLP 2021)."""

    name: Literal["prompt"] = "prompt"
    length: int = Field(20, ge=1, le=UNITS)
    """Number of embeddings."""


PeftConfig = Annotated[
    Annotated[LoraConfig, Tag("lora")] | Annotated[Ia3Config, Tag("ia3")] | Annotated[SoftPromptConfig, Tag("prompt")],
    BY_NAME,
    SHORTHAND,
]


class HuggingFaceConfig(Section):
    """A transformer of the Hugging Face library (extra `llm`): one of `path`, `hub` and `config` says which."""

    name: Literal["hugging_face"] = "hugging_face"
    path: str | None = Field(None, min_length=1)
    """A folder that `from_pretrained` opens, or a `.gguf` file."""
    hub: str | None = Field(None, min_length=1)
    """A model of the hub (`HuggingFaceTB/SmolLM2-135M`); downloaded unless it is in the library's cache."""
    config: Arguments | None = None
    """A model with weights drawn from the seed: `model_type`, and keys of its configuration. `vocab_size` is by default
    that of the data's tokenizer."""
    task: TransformerTask = "causal_lm"
    """`causal_lm`: the next token. `sequence_classification`, `token_classification`: the library's heads. `encoder`:
    the mean of the last hidden states, and a linear layer."""
    peft: PeftConfig | None = None
    """Adapters. With them the base is frozen, except for the head of a classifier, and what `train` names."""
    train: Names = ()
    """Names of parameters that train beside the adapters, with `*`; those that train anyway are refused."""
    freeze: Names = ()
    """Names of parameters that do not train, with `*`; those that are frozen anyway are refused."""
    dtype: Literal["float32", "bfloat16", "float16"] = "float32"
    """Of frozen parameters. What trains is float32."""
    bits: Literal[4, 8] | None = None
    """Quantise the frozen linear layers with bitsandbytes; needs a GPU."""
    attention: Literal["auto", "sdpa", "eager"] = "auto"
    """How attention is computed. `auto`: `eager` for `training.engine: rows`, else `sdpa`; recorded."""
    weights: str | None = None
    """A `.safetensors` file that has what trains, such as a run's `model.safetensors`."""
    fingerprint: str = ""
    """SHA-256 of the pretrained files; written by raysim, so that a resume has the same base."""

    @model_validator(mode="after")
    def _one_origin(self) -> HuggingFaceConfig:
        given = [key for key in ("path", "hub", "config") if getattr(self, key) is not None]
        if len(given) != 1:
            found = f"found {' and '.join(given)}" if given else "found none"
            raise ValueError(f"hugging_face takes one of path, hub and config; {found}")
        if self.peft is None and self.train:
            raise ValueError("train names what trains beside adapters, and there are none; use freeze, or add peft")
        if self.dtype != "float32" and self.peft is None and not self.freeze:
            raise ValueError("dtype is that of frozen parameters, and none is frozen; add peft or freeze")
        if self.bits is not None and self.peft is None:
            raise ValueError("quantised layers do not train: bits needs peft")
        if isinstance(self.peft, SoftPromptConfig) and self.task == "encoder":
            raise ValueError("an encoder would pool the prompt as well: use lora or ia3 for task encoder")
        return self
