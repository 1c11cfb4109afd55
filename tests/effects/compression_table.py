"""What is tried of each key of the stages that compress (see `tables.py`)."""

from __future__ import annotations

_FIRST = {
    "compress": "codec: {name: topk, fraction: 0.3}, feedback: ef14",
    "randk": "fraction: 0.3",
    "sketch": "rows: 2, width: 9, fraction: 0.1",
    "rotate": "block: 4",
    "downlink": "codec: {name: topk, fraction: 0.3}",
}
"""Options of each stage in its base."""

_OTHER = {
    "compress.codec=topk.fraction": "codec: {name: topk, fraction: 0.6}",
    "compress.codec=qsgd.levels": "codec: {name: qsgd, levels: 2}",
    "compress.codec=qsgd.block": "codec: {name: qsgd, block: 3}",
    "compress.codec=int8.block": "codec: {name: int8, block: 3}",
    "compress.codec=majority.step": "codec: {name: majority, step: 0.1}",
    "compress.codec=powersgd.rank": "codec: {name: powersgd, rank: 2}",
    "compress.feedback=ef14.decay": "feedback: {name: ef14, decay: 0.1}",
    "randk.fraction": "fraction: 0.6",
    "randk.unbiased": "unbiased: false",
    "sketch.rows": "rows: 3",
    "sketch.width": "width: 7",
    "sketch.fraction": "fraction: 0.2",
    "sketch.momentum": "momentum: 0.9",
    "rotate.block": "block: 8",
}
"""Another value of each option."""

_CODECS = ("topk", "qsgd", "int8", "int4", "sign", "majority", "fp16", "bf16", "powersgd")
_DEFAULTS = {"topk": "{name: topk, fraction: 0.3}", "powersgd": "{name: powersgd, rank: 1}"}


def _stage(name: str, *options: str) -> str:
    """A stage with options, of which the last one of a name counts."""
    chosen = {one.partition(":")[0]: one for one in (_FIRST[name], *options) for one in _split(one)}
    stages = [f"{{name: {name}, {', '.join({'dense_below': 'dense_below: 0', **chosen}.values())}}}"]
    if name == "rotate":  # which changes nothing by itself but the last bits
        stages.append("{name: compress, codec: {name: int4, block: 8}, dense_below: 0}")
    return f"[{', '.join(stages)}]"


def _split(options: str) -> list[str]:
    found, depth = [""], 0
    for letter in options:
        depth += {"{": 1, "[": 1, "}": -1, "]": -1}.get(letter, 0)
        if letter == "," and not depth:
            found.append("")
        else:
            found[-1] += letter
    return [one.strip() for one in found]


def _lines() -> list[str]:
    found = []

    def line(key: str, stage: str, base: str = "") -> None:
        found.append(f"aggregation.stages={key} | {stage} | @mlp; {f'aggregation.stages={base}' if base else ''}")

    for name in _FIRST:
        plain = _stage(name)
        line(name, plain)
        for option, value in (("include", "['*.weight']"), ("exclude", "['*.bias']"), ("dense_below", "7")):
            line(f"{name}.{option}", _stage(name, f"{option}: {value}"), plain)
    for name in ("compress", "downlink"):
        own = ["feedback: null"] if name == "compress" else []
        for codec in _CODECS:
            if (name, codec) != ("downlink", "majority"):
                line(f"{name}.codec={codec}", _stage(name, f"codec: {_DEFAULTS.get(codec, codec)}", *own))
    for key, value in _OTHER.items():
        name = key.partition(".")[0]
        _, _, codec = key.rpartition("codec=")
        codec = codec.partition(".")[0] if "codec=" in key else ""
        before = [f"codec: {_DEFAULTS.get(codec, codec)}", "feedback: null"] if codec else []
        line(key, _stage(name, *before, value), _stage(name, *before))
        if codec and codec != "majority":
            line(key.replace("compress", "downlink"), _stage("downlink", value), _stage("downlink", before[0]))
    for feedback in ("ef14", "ef21"):
        line(
            f"compress.feedback={feedback}",
            _stage("compress", f"feedback: {feedback}"),
            _stage("compress", "feedback: null"),
        )
    return found


COMPRESSION = "\n".join(_lines())
