"""A module as an ONNX file, by torch's exporter; optional libraries are imported when one is written."""

from __future__ import annotations

import logging
import warnings
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from raysim.data import DataInfo
from raysim.errors import ModelError
from raysim.models.onnx_transformer import OnnxTransformer
from raysim.models.transformer_inputs import IDS, MASK, is_transformer
from raysim.user_code import told

LARGEST = 1_500_000_000
"""Bytes of weights in one file: the format ends at 2 GiB."""


def save_onnx(module: nn.Module, info: DataInfo, path: Path) -> None:
    """Write a module, with batches of any size.

    A module of one input takes `x` `[batch, *input_shape]`. A transformer of the Hugging Face library takes `input_ids`
    and `attention_mask`, both int64 `[batch, length]` with any length that it has positions for; padding comes last,
    and has 0 in the mask. What it returns is called `output`.

    Raises:
        ModelError: a library is missing, the module takes several inputs or is too large, or torch cannot export it.
    """
    for library in ("onnx", "onnxscript"):
        if find_spec(library) is None:
            raise ModelError(f"an ONNX file needs {library}; run `pip install 'raysim-fl[onnx]'`")
    if sum(one.nbytes for one in module.state_dict().values()) > LARGEST:
        raise ModelError(f"an ONNX file holds no more than {LARGEST / 1e9:.1f} GB of weights, and the model has more")
    batch = torch.export.Dim("batch")
    if is_transformer(module):
        module = OnnxTransformer(module, info)
        sizes: dict[int, Any] = {0: batch, 1: torch.export.Dim("length", max=module.longest)}
        ids = torch.zeros((2, 3), dtype=torch.int64)
        _save(module, {IDS: ids, MASK: torch.ones_like(ids)}, sizes, path)
        return
    if info.input_kind == "record":
        raise ModelError("an ONNX file is written of models that take one tensor, and this one takes several inputs")
    kind = torch.int64 if info.input_kind == "tokens" else torch.float32
    _save(module, {"x": torch.zeros((2, *info.input_shape), dtype=kind)}, {0: batch}, path)


def _save(module: nn.Module, inputs: dict[str, Tensor], sizes: dict[int, Any], path: Path) -> None:
    """Export by an example of each input; `sizes` names the dimensions that may be of any size."""
    logging.getLogger("torch.onnx").setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                module.eval(),
                tuple(inputs.values()),
                dynamo=True,
                verbose=False,
                input_names=list(inputs),
                output_names=["output"],
                dynamic_shapes=tuple(sizes for _ in inputs),
            )
    except Exception as error:  # the exporter raises anything, and shows pages
        raise ModelError(f"torch cannot write the model as ONNX ({told(error).splitlines()[0][:200]})") from error
    assert program is not None, "the exporter returns a program"
    # Where the exporter cannot keep a size open, it falls back on that of the example without a word.
    shapes = [one.shape for one in program.model.graph.inputs]
    if any(shape is None or isinstance(shape[place], int) for shape in shapes for place in sizes):
        raise ModelError(
            "torch cannot write the model as ONNX: its forward pass takes the size of a batch for a constant; write "
            "x.shape[0] for len(x), and no number that depends on it"
        )
    program.save(path)
