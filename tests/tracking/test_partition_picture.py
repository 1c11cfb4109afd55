from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from raysim.config.data import DataConfig
from raysim.config.sources import InMemoryConfig
from raysim.data import prepare
from raysim.tracking.report.partition import partition_picture


def draw(tmp_path: Path, classes: int | None, partition: dict[str, Any], **options: Any) -> Any:
    from matplotlib.image import imread

    random = np.random.default_rng(0)
    y = random.integers(0, classes, 3000) if classes else random.normal(size=3000)
    config = DataConfig(source=InMemoryConfig(), partition=partition, cache=str(tmp_path / "cache"))
    federation = prepare(config, 0, arrays=(random.normal(size=(3000, 2)), y)).open()
    path = partition_picture(federation, tmp_path / "pictures" / "partition.png", **options)
    assert [file.name for file in path.parent.iterdir()] == ["partition.png"]  # nothing temporary is left
    return imread(path)


@pytest.mark.parametrize("clients", [1, 20, 50, 51, 1500])
def test_few_and_many_clients_are_drawn(tmp_path: Path, clients: int) -> None:
    picture = draw(tmp_path, 10, {"name": "iid", "clients": clients})
    assert picture.shape == (806, 1430, 4)
    assert len(np.unique(picture[..., 0])) > 20  # shades, not an empty sheet


def test_two_labels_and_many_labels_are_drawn(tmp_path: Path) -> None:
    for classes in (2, 120):
        draw(tmp_path, classes, {"name": "dirichlet", "clients": 12, "min_size": 1}, title=f"{classes} labels")


def test_sizes_alone_are_drawn_where_there_are_no_labels(tmp_path: Path) -> None:
    for clients in (10, 1100):
        draw(tmp_path, None, {"name": "quantity", "clients": clients})


def test_empty_clients_and_names_of_labels_are_drawn(tmp_path: Path) -> None:
    partition = {"name": "dirichlet", "clients": 30, "alpha": 0.01, "min_size": 0, "allow_empty": True}
    draw(tmp_path, 3, partition, class_names=["cat", "dog", "a name that is rather long"])


def test_drawing_leaves_pyplot_alone(tmp_path: Path) -> None:
    import matplotlib.pyplot as plt

    draw(tmp_path, 4, {"name": "iid", "clients": 5})
    assert plt.get_fignums() == []
