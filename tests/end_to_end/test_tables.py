"""Tables as they come: a classifier by region and a recommender by user, against plain torch on the same samples."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pyarrow.parquet as pq
import pytest
import torch
import torch.nn.functional as F
from forms import Form, check, plain_averaging
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.data import prepare, source_rows
from raysim.execution.preparation.prepare import prepare_job

ROWS = 24
RANDOM = np.random.default_rng(8)
USERS = np.array(["ann"] * 14 + ["bob"] * 10)
ITEMS = np.array(["x", "y", "z"])[RANDOM.integers(0, 3, ROWS)]
RATINGS = RANDOM.integers(1, 6, ROWS).astype(float)
DAYS = [f"2024-01-{day:02d}" for day in RANDOM.permutation(ROWS) + 1]


class Factors(nn.Module):
    """Matrix factorisation: the product of a user's and an item's factors, and an item's bias."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(1)
        self.users, self.items, self.bias = nn.Embedding(3, 2), nn.Embedding(4, 2), nn.Embedding(4, 1)

    def forward(self, user_id: Tensor, item: Tensor) -> Tensor:
        return (self.users(user_id) * self.items(item)).sum(-1) + self.bias(item).squeeze(-1)


def test_ratings_of_users_train_like_plain_torch_and_the_latest_are_tested_on(tmp_path: Path) -> None:
    lines = [f"{u},{i},{d},{r:g}" for u, i, d, r in zip(USERS, ITEMS, DAYS, RATINGS, strict=True)]
    (tmp_path / "ratings.csv").write_text("\n".join(["user_id,item,day,rating", *lines]) + "\n")
    source: dict[str, Any] = {"name": "csv", "path": str(tmp_path / "ratings.csv"), "label": "rating"}
    source |= {"client": "user_id", "features": ["user_id", "item", "day"], "task": "regression"}
    split = {"name": "time", "column": "day"}
    data = {"source": source, "split": split, "transforms": ["ids"], "test": 0.25}
    latest = [
        set(np.argsort(DAYS)[USERS[np.argsort(DAYS)] == user][-count:]) for user, count in (("ann", 4), ("bob", 2))
    ]
    trained = np.array([i for i in range(ROWS) if i not in latest[0] | latest[1]])
    place: dict[str, Any] = {user: i + 1 for i, user in enumerate(sorted(set(USERS)))}
    names = {item: i + 1 for i, item in enumerate(sorted(set(ITEMS[trained])))}

    def loss(module: nn.Module, rows: slice) -> Tensor:
        users = torch.tensor([place[one] for one in USERS[trained][rows]])
        items = torch.tensor([names[one] for one in ITEMS[trained][rows]])
        return F.mse_loss(module(users, items), torch.from_numpy(RATINGS[trained][rows]).float())

    sizes = [int((USERS[trained] == user).sum()) for user in ("ann", "bob")]
    parts = slice(0, sizes[0]), slice(sizes[0], sum(sizes))
    form = Form(lambda: None, loss, Factors, {"data": data}, parts=parts)
    metrics = check(form, "sequential", tmp_path / "run")
    module = plain_averaging(Factors(), loss, parts)
    tested = sorted(latest[0] | latest[1])
    users = torch.tensor([place[one] for one in USERS[tested]])
    items = torch.tensor([names.get(one, 0) for one in ITEMS[tested]])
    with torch.no_grad():
        errors = module(users, items).numpy() - RATINGS[tested]
    assert metrics["test/rmse"] == pytest.approx(np.sqrt((errors**2).mean()), rel=1e-4)


def test_a_table_with_dates_holes_and_rare_categories_is_one_configuration(tmp_path: Path) -> None:
    generator = np.random.default_rng(0)
    rows = ["admitted,ward,drug,age,result"]
    for i in range(80):
        drug = "aspirin" if i % 5 else f"rare{i}"
        age = "" if i % 9 == 0 else str(int(generator.integers(20, 90)))
        rows.append(
            f"2023-{1 + i % 12:02d}-05,{'ab'[i % 2]},{drug},{age},{'ill' if generator.random() < 0.5 else 'well'}"
        )
    (tmp_path / "patients.csv").write_text("\n".join(rows) + "\n")
    source = {"name": "csv", "path": str(tmp_path / "patients.csv"), "label": "result", "client": "ward"}
    transforms = [
        {"name": "missing", "action": "median"},
        {"name": "dates", "columns": ["admitted"], "parts": ["month"]},
        {"name": "rare", "columns": ["drug"], "min_count": 3},
        {"name": "clip", "low": 0.05, "high": 0.95},
        "one_hot",
        "standardise",
    ]
    settings = {"rounds": 1, "cohort": 1.0, "execution": {"executor": "inprocess"}}
    data = {"source": source, "partition": "natural", "split": "stratified", "transforms": transforms}
    prepared = prepare_job(Experiment.parse({**settings, "data": data}))
    assert prepared.info.input_shape == (4,)  # age, month, and two categories of drugs
    assert prepared.info.class_names == ("ill", "well")


def test_seven_classes_of_which_one_has_ten_rows_end_where_scikit_learn_does(tmp_path: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.metrics import roc_auc_score
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    generator = np.random.default_rng(5)
    kinds = np.repeat(np.arange(7), [200, 150, 120, 90, 60, 40, 10])
    x = generator.normal(size=(7, 3))[kinds] * 1.5 + generator.normal(size=(len(kinds), 3))
    lines = [
        f"{'' if i % 40 == 7 else one[0]},{one[1]},{one[2]},{'nesw'[i % 4]},kind {kind}"
        for i, (one, kind) in enumerate(zip(x, kinds, strict=True))
    ]
    (tmp_path / "finds.csv").write_text("\n".join(["a,b,c,site,kind", *lines]) + "\n")
    experiment = Experiment.parse(
        {
            "rounds": 30,
            "cohort": 1.0,
            "data": {
                "source": {"name": "csv", "path": str(tmp_path / "finds.csv"), "label": "kind", "client": "site"},
                "partition": "natural",
                "split": "stratified",
                "test": 0.3,
                "holdout": 0.2,
                "transforms": ["missing", "standardise"],
            },
            "model": "softmax",
            "client": {"batch_size": "full", "optimizer": {"lr": 3.0}},
            "training": {"engine": "rows", "compile": False},
            "evaluation": {"every": 30, "metrics": ["accuracy", "roc_auc"]},
            "execution": {"executor": "inprocess"},
            "tracking": {"report": False},
        }
    )
    with Simulation(experiment, directory=tmp_path / "run") as simulation:
        ours = simulation.run().metrics["test/roc_auc"]
        module = simulation.model().eval()
    told = [str(one) for one in prepare(experiment.data, 0).open().left_out()]
    assert any("missing: drop" in one and "column 'a' is empty in" in one for one in told)

    rows = source_rows(experiment).to_pandas()
    assert len(rows) == len(kinds) - sum(i % 40 == 7 for i in range(len(kinds)))
    trained, tested = (rows[rows.part == part].row.to_numpy() for part in ("train", "test"))
    assert set(kinds[tested]) == set(range(7))
    plain = make_pipeline(StandardScaler(), LogisticRegression(C=np.inf, max_iter=1000)).fit(x[trained], kinds[trained])
    scores, right = plain.predict_proba(x[tested]), kinds[tested]
    found = []
    for _ in range(50):
        drawn = generator.integers(0, len(right), len(right))
        those = [kind for kind in range(7) if (right[drawn] == kind).any()]
        found.append(np.mean([roc_auc_score(right[drawn] == kind, scores[drawn, kind]) for kind in those]))
    assert ours == pytest.approx(np.mean(found), abs=1.96 * float(np.std(found)))

    federation = prepare(experiment.data, 0).open()
    recorded = pq.read_table(tmp_path / "run" / "holdouts.parquet").to_pandas()
    for client, accuracy in zip(recorded.client, recorded.accuracy, strict=True):
        shard = federation.shard(int(client), "holdout")
        with torch.no_grad():
            own = (module(torch.from_numpy(shard.x.copy())).argmax(1).numpy() == shard.y).mean()
        assert accuracy == pytest.approx(own)
