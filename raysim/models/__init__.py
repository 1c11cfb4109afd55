"""The model zoo and user models: plain modules, channels first, whose rows `torch.func` can vectorise."""

from raysim.models.blueprint import Blueprint, LazyBlueprint
from raysim.models.build import MODELS, build_model, list_models, model_on_meta
from raysim.models.calling import Calling, cache_argument, takes_any_length
from raysim.models.exclusive import exclusive_torch
from raysim.models.fingerprint import fingerprint
from raysim.models.fit import check_fit, check_trainable, moved_statistic, refusal_of_one
from raysim.models.frozen import BASE, FrozenWatch, base_fingerprint
from raysim.models.outputs import OutputShape, output_shape
from raysim.models.pretrained import resolved
from raysim.models.versioned import with_versions
from raysim.models.weights import load_weights

__all__ = [
    "BASE",
    "MODELS",
    "Blueprint",
    "Calling",
    "FrozenWatch",
    "LazyBlueprint",
    "OutputShape",
    "base_fingerprint",
    "build_model",
    "cache_argument",
    "check_fit",
    "check_trainable",
    "exclusive_torch",
    "fingerprint",
    "list_models",
    "load_weights",
    "model_on_meta",
    "moved_statistic",
    "output_shape",
    "refusal_of_one",
    "resolved",
    "takes_any_length",
    "with_versions",
]
