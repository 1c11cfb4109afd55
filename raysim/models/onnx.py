"""A module as an ONNX file, by torch's exporter; optional libraries are imported when one is written."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path

import torch
from torch import nn

from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.user_code import told

LARGEST = 1_500_000_000
"""Bytes of weights in one file: the format ends at 2 GiB."""


def save_onnx(module: nn.Module, info: DataInfo, path: Path) -> None:
    """Write a module of one input, with batches of any size: `x` `[batch, *input_shape]` to `output`.

    Raises:
        ModelError: a library is missing, the module takes several inputs or is too large, or torch cannot export it.
    """
    for library in ("onnx", "onnxscript"):
        if find_spec(library) is None:
            raise ModelError(f"an ONNX file needs {library}; run `pip install 'raysim-fl[onnx]'`")
    if info.input_kind == "record":
        raise ModelError("an ONNX file is written of models that take one tensor, and this one takes several inputs")
    if sum(one.nbytes for one in module.state_dict().values()) > LARGEST:
        raise ModelError(f"an ONNX file holds no more than {LARGEST / 1e9:.1f} GB of weights, and the model has more")
    kind = torch.int64 if info.input_kind == "tokens" else torch.float32
    example = torch.zeros((2, *info.input_shape), dtype=kind)
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                (example,),
                dynamo=True,
                verbose=False,
                input_names=["x"],
                output_names=["output"],
                dynamic_shapes=({0: torch.export.Dim("batch")},),
            )
    except Exception as error:  # the exporter raises anything, and shows pages
        raise ModelError(f"torch cannot write the model as ONNX ({told(error).splitlines()[0][:200]})") from error
    assert program is not None, "the exporter returns a program"
    program.save(path)
