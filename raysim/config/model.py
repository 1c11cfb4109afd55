"""The `model` section."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, Tag, model_validator

from raysim.config.base import BY_NAME, SHORTHAND, ImportString, Section
from raysim.config.bounds import UNITS, Arguments
from raysim.config.hugging_face import HuggingFaceConfig


class BaseModelConfig(Section):
    """What every model takes."""

    weights: str | None = None
    """A `.safetensors` file to start from; by default weights drawn from the seed."""


class SoftmaxConfig(BaseModelConfig):
    """Multinomial logistic regression; with one output, linear regression."""

    name: Literal["softmax"] = "softmax"
    bias: bool = True
    """Add a bias."""


class MlpConfig(BaseModelConfig):
    """ReLU multi-layer perceptron. McMahan's 2NN is `hidden: [200, 200]` (199,210 parameters on MNIST)."""

    name: Literal["mlp"] = "mlp"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=UNITS)], ...], Field(max_length=1000)] = (200, 200)
    """Units of each hidden layer."""
    dropout: float = Field(0.0, ge=0, lt=1)
    """Dropout after each hidden layer."""


class MlpLoraConfig(BaseModelConfig):
    """ReLU multi-layer perceptron with LoRA adapters on frozen hidden layers; the last layer trains whole."""

    name: Literal["mlp_lora"] = "mlp_lora"
    hidden: Annotated[tuple[Annotated[int, Field(ge=1, le=UNITS)], ...], Field(max_length=1000)] = (64,)
    """Units of each hidden layer."""
    rank: int = Field(4, ge=1, le=UNITS)
    """Rank r of the adapters."""
    alpha: float = Field(8.0, gt=0)
    """Scaling α: a layer adds α/r B A x."""

    @model_validator(mode="after")
    def _has_a_layer_to_adapt(self) -> MlpLoraConfig:
        if not self.hidden:
            raise ValueError("hidden: empty, and only hidden layers have adapters; give at least one, or use softmax")
        return self


class CnnConfig(BaseModelConfig):
    """McMahan et al.'s MNIST CNN: two 5x5 convolutions, 512 units; 1,663,370 parameters on 28x28x1."""

    name: Literal["cnn"] = "cnn"


class CnnCifarConfig(BaseModelConfig):
    """pfl-research's small CIFAR-10 CNN: two 3x3 convolutions, max pooling, dropout, 128 units."""

    name: Literal["cnn_cifar"] = "cnn_cifar"
    dropout: bool = True
    """Dropout of 0.25 after pooling and 0.5 before the last layer."""


class Resnet18GnConfig(BaseModelConfig):
    """ResNet-18 for small images with group normalisation instead of batch normalisation (Hsieh et al. 2020)."""

    name: Literal["resnet18_gn"] = "resnet18_gn"
    groups: int = Field(2, ge=1, le=UNITS)
    """Groups of each normalisation."""
    width: int = Field(64, ge=1, le=UNITS)
    """Channels of the first stage."""


class LstmCharConfig(BaseModelConfig):
    """Stacked character LSTM (McMahan et al. 2017; Reddi et al. 2021): a prediction for every position."""

    name: Literal["lstm_char"] = "lstm_char"
    embedding: int = Field(8, ge=1, le=UNITS)
    """Dimensions of the embedding."""
    hidden: int = Field(256, ge=1, le=UNITS)
    """Units of each layer."""
    layers: int = Field(2, ge=1, le=100)
    """Layers."""


class InMemoryModelConfig(Section):
    """A module handed to `Simulation(experiment, model=…)`. Written by raysim, not by hand."""

    name: Literal["in_memory"] = "in_memory"
    fingerprint: str = ""
    """SHA-256 of the module's class, names, shapes and initial weights: a resume must bring the same one."""


class CustomModelConfig(BaseModelConfig):
    """A function of yours that returns an `nn.Module`.

    It is called with `args`; parameters named `info`, `input_shape` or `classes` are filled in from the data.
    """

    name: ImportString
    args: Arguments = Field(default_factory=dict)
    """Keyword arguments passed to it."""


ModelConfig = Annotated[
    Annotated[SoftmaxConfig, Tag("softmax")]
    | Annotated[MlpConfig, Tag("mlp")]
    | Annotated[MlpLoraConfig, Tag("mlp_lora")]
    | Annotated[CnnConfig, Tag("cnn")]
    | Annotated[CnnCifarConfig, Tag("cnn_cifar")]
    | Annotated[Resnet18GnConfig, Tag("resnet18_gn")]
    | Annotated[LstmCharConfig, Tag("lstm_char")]
    | Annotated[HuggingFaceConfig, Tag("hugging_face")]
    | Annotated[InMemoryModelConfig, Tag("in_memory")]
    | Annotated[CustomModelConfig, Tag("custom")],
    BY_NAME,
    SHORTHAND,
]
