"""The model zoo and user models: plain modules, channels first, whose rows `torch.func` can vectorise."""

from raysim.models.build import MODELS, build_model, list_models, model_on_meta
from raysim.models.exclusive import exclusive_torch
from raysim.models.fingerprint import fingerprint
from raysim.models.fit import check_fit, check_trainable, refusal_of_one
from raysim.models.outputs import output_shape
from raysim.models.sharing import FrozenBase, FrozenWatch, copy_module
from raysim.models.weights import load_weights

__all__ = [
    "MODELS",
    "FrozenBase",
    "FrozenWatch",
    "build_model",
    "check_fit",
    "check_trainable",
    "copy_module",
    "exclusive_torch",
    "fingerprint",
    "list_models",
    "load_weights",
    "model_on_meta",
    "output_shape",
    "refusal_of_one",
]
