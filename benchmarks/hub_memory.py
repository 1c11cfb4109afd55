"""Memory that building shards of a Hugging Face data set takes, beside the size of the store.

    python benchmarks/hub_memory.py                  # 10,000 and 40,000 images, and as many texts
    python benchmarks/hub_memory.py --samples 5000

A `DatasetDict` of images (3 x 32 x 32, PNG) and one of texts (64 tokens) are saved in a folder, each sample with a
label of ten and an owner of a hundred. A process then opens one and builds the shards, by owner or by Dirichlet;
another does all but that. Measured is the most memory that a process has had for itself (`VmHWM` less the pages of
mapped files at the end), the difference of the two, and the bytes of the store. Writes
`benchmarks/results/hub_memory.md`. Needs Linux.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import numpy as np
from keeping import RESULTS, table

os.environ["HF_HUB_OFFLINE"] = os.environ["HF_DATASETS_DISABLE_PROGRESS_BARS"] = "1"
MIB = 1 << 20
LENGTH, WORDS = 64, 500
PARTITIONS: dict[str, dict[str, Any]] = {
    "by owner": {"name": "natural"},
    "Dirichlet": {"name": "dirichlet", "clients": 100, "alpha": 0.5},
}


def write_images(folder: Path, samples: int) -> None:
    import datasets

    def rows(count: int) -> Any:
        generator = np.random.default_rng(count)
        for i in range(count):
            image = generator.integers(0, 256, (32, 32, 3), dtype=np.uint8)
            yield {"image": image, "label": i % 10, "writer": f"w{generator.integers(100)}"}

    features = datasets.Features(
        {"image": datasets.Image(), "label": datasets.ClassLabel(num_classes=10), "writer": datasets.Value("string")}
    )
    _save(folder, samples, rows, features)


def write_texts(folder: Path, samples: int) -> None:
    import datasets

    def rows(count: int) -> Any:
        generator = np.random.default_rng(count)
        for i in range(count):
            words = generator.integers(0, WORDS, generator.integers(10, 2 * LENGTH))
            yield {
                "text": " ".join(f"w{word}" for word in words),
                "label": i % 10,
                "writer": f"w{generator.integers(100)}",
            }

    features = datasets.Features({name: datasets.Value("string") for name in ("text", "writer")})
    features["label"] = datasets.ClassLabel(num_classes=10)
    _save(folder, samples, rows, features)


def _save(folder: Path, samples: int, rows: Any, features: Any) -> None:
    import datasets

    made = {
        part: datasets.Dataset.from_generator(
            rows, gen_kwargs={"count": count}, features=features, cache_dir=str(folder.parent / "made")
        )
        for part, count in (("train", samples), ("test", samples // 10))
    }
    datasets.DatasetDict(made).save_to_disk(str(folder))


def tokenizer(folder: Path) -> None:
    import tokenizers
    import transformers

    ids = {"[PAD]": 0, "[UNK]": 1, **{f"w{i}": i + 2 for i in range(WORDS)}}
    words = tokenizers.Tokenizer(tokenizers.models.WordLevel(ids, unk_token="[UNK]"))
    words.pre_tokenizer = tokenizers.pre_tokenizers.Whitespace()
    made = transformers.PreTrainedTokenizerFast(tokenizer_object=words, pad_token="[PAD]", unk_token="[UNK]")
    made.save_pretrained(str(folder))


def build(kind: str, folder: Path, partition: str, *, whole: bool) -> None:
    """In a process of its own: open the data set, and build its shards if `whole`; prints what was measured."""
    from raysim.adapters import from_hugging_face
    from raysim.config import Experiment
    from raysim.config.sources import InMemoryConfig
    from raysim.data import prepare

    given: dict[str, Any] = {"inputs": "image"} if kind == "images" else {"inputs": "text", "length": LENGTH}
    if kind == "texts":
        import transformers

        given["tokenizer"] = transformers.PreTrainedTokenizerFast.from_pretrained(str(folder / "tokenizer"))
    data = from_hugging_face(str(folder / kind), label="label", client="writer", **given)
    size = 0
    if whole:
        cache = folder / f"cache-{kind}-{partition.replace(' ', '-')}"
        settings = {"data": {"partition": PARTITIONS[partition], "cache": str(cache)}}
        config = Experiment.parse(settings).data.model_copy(update={"source": InMemoryConfig()})
        spec: Any = prepare(config, 0, arrays=data)
        size = sum(file.stat().st_size for file in Path(spec.path).iterdir())
    status = dict(line.split(":", 1) for line in Path("/proc/self/status").read_text().splitlines())
    kept = {key: int(status[key].split()[0]) * 1024 for key in ("VmHWM", "RssFile")}
    print(json.dumps({"most": kept["VmHWM"] - kept["RssFile"], "store": size}))


def measure(kind: str, folder: Path, partition: str, *, whole: bool) -> dict[str, int]:
    command = [sys.executable, __file__, "--build", kind, "--folder", str(folder), "--partition", partition]
    done = subprocess.run([*command, *(["--whole"] if whole else [])], capture_output=True, text=True, check=True)
    found: dict[str, int] = json.loads(done.stdout.splitlines()[-1])
    return found


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--samples", type=int, nargs="+", default=[10_000, 40_000])
    parser.add_argument("--build")
    parser.add_argument("--folder", type=Path)
    parser.add_argument("--partition", default="by owner")
    parser.add_argument("--whole", action="store_true")
    options = parser.parse_args()
    if options.build:
        build(options.build, options.folder, options.partition, whole=options.whole)
        return
    rows = []
    for samples in options.samples:
        with tempfile.TemporaryDirectory() as name:
            folder = Path(name)
            write_images(folder / "images", samples)
            write_texts(folder / "texts", samples)
            tokenizer(folder / "tokenizer")
            for kind in ("images", "texts"):
                opened = measure(kind, folder, "by owner", whole=False)["most"]
                for partition in PARTITIONS:
                    found = measure(kind, folder, partition, whole=True)
                    took = found["most"] - opened
                    rows.append([f"{samples:,} {kind}", partition, f"{found['store'] / MIB:.0f}", f"{took / MIB:.0f}"])
    page = f"""# Memory of building shards from a Hugging Face data set

`python benchmarks/hub_memory.py`: a saved `DatasetDict` of so many training samples and a tenth of that to test on, one
hundred clients. MiB of the store, and of the memory that building it took for itself at most, beside what opening the
data set had taken. Some 9 MiB are code and what does not grow; beside it there is one chunk of 4 MiB of samples, the
server's sets, and labels and owners. Texts are tokenised by 128: all at once took 45 MiB more.

{table(["data", "partition", "store", "memory"], rows)}"""
    (RESULTS / "hub_memory.md").write_text(page)
    print(page)


if __name__ == "__main__":
    main()
