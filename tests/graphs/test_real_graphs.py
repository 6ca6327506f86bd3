"""The published graphs, where a copy lies beside the project: counts, splits, coverage.

They are looked for in `$DSOM_SHARED_DATA`, or in `shared/data` beside the project's folder.
"""

import os
import time
import warnings
from functools import cache
from pathlib import Path

import numpy as np
import pytest

from graphs import GraphWarning, MultimodalGraph, graph_card, load_graph

DATA = Path(
    os.environ.get("DSOM_SHARED_DATA", Path(__file__).parents[2].parent / "shared" / "data")
)
SPLITS = ("train", "valid", "test")

# Entities, relations, triples per split; entities with a description; modalities.
PUBLISHED = {
    "DB15K": (12842, 279, (71741, 7481, 9902), 12839, {"image": 211}),
    "MKG-W": (15000, 169, (34196, 4276, 4274), 3405, {}),
    "MKG-Y": (15000, 28, (21310, 2665, 2663), 1704, {}),
    "FB15k-237": (14541, 237, (272115, 17535, 20466), 14515, {"image": 225, "numeric": 12316}),
    "WN18": (40943, 18, (141442, 5000, 5000), 40943, {"image": 428}),
    "WN18RR": (40943, 11, (86835, 3034, 3134), 0, {}),
}
SAID = {
    "DB15K": ["9904 triples, 7481 of them distinct, of which 6584 are in train and 824 in test"],
    "MKG-W": ["features of 58 of 15000 entities"],
    "MKG-Y": ["features of 11 of 15000 entities"],
    "WN18RR": ["none of its 41105 names is one of the graph"],
}


@cache
def load(name: str) -> tuple[MultimodalGraph, list[str], float]:
    if not (DATA / name).is_dir():
        pytest.skip(f"no {name} here")
    start = time.process_time()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GraphWarning)
        graph = load_graph(DATA / name)
    return graph, [str(warning.message) for warning in caught], time.process_time() - start


@pytest.mark.parametrize("name", PUBLISHED)
def test_published_counts(name: str) -> None:
    graph, said, seconds = load(name)
    entities, relations, sizes, texts, modalities = PUBLISHED[name]
    assert (graph.num_entities, graph.num_relations) == (entities, relations)
    assert tuple(len(graph.triples[split]) for split in SPLITS) == sizes
    assert sum(text is not None for text in graph.entity_texts or ()) == texts
    found = {kind: len(modality.entities) for kind, modality in graph.modalities.items()}
    assert found == modalities
    assert set(graph.split_overlaps().values()) == {0}
    expected = SAID.get(name, [])
    assert len(said) == len(expected)
    assert all(part in sentence for part, sentence in zip(expected, said, strict=True))
    assert seconds < 10


def test_db15k_as_published() -> None:
    load("DB15K")
    expected = r"train/valid 6584, valid/test 824; sizes train 79222, valid 9904, test 9902"
    with pytest.warns(GraphWarning, match=expected):
        graph = load_graph(f"{DATA / 'DB15K'}:valid=published")
    assert len(np.unique(graph.triples["valid"], axis=0)) == 7481
    assert graph.entity_labels[1] == "Franciaország"
    assert graph.relation_labels[:2] == ("seeAlso", "country")


def test_db15k_drawn_anew_is_the_same_everywhere() -> None:
    graph, _, _ = load("DB15K")
    assert graph.fingerprint == "91b29e89b3763339"
    published = load_graph_silently(f"{DATA / 'DB15K'}:valid=published")
    train = {tuple(row) for row in published.triples["train"].tolist()}
    valid = {tuple(row) for row in graph.triples["valid"].tolist()}
    assert valid <= train
    seen = np.unique(graph.triples["train"][:, [0, 2]])
    assert len(seen) == len(np.unique(published.triples["train"][:, [0, 2]]))
    assert len(np.unique(graph.triples["train"][:, 1])) == len(
        np.unique(published.triples["train"][:, 1])
    )


def load_graph_silently(name: str) -> MultimodalGraph:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", GraphWarning)
        return load_graph(name)


@pytest.mark.parametrize(
    ("name", "split", "figure", "share"),
    [
        ("WN18", "test", "reverse", 0.94),
        ("FB15k-237", "test", "reverse", 0.0),
        ("FB15k-237", "test", "parallel", 0.0),
        ("MKG-W", "test", "queries_unseen", 0.072),
        ("MKG-Y", "test", "queries_unseen", 0.146),
    ],
)
def test_known_faults(name: str, split: str, figure: str, share: float) -> None:
    card = graph_card(load(name)[0])
    part = card["splits" if figure == "queries_unseen" else "leakage"][split]
    assert part[figure] == pytest.approx(share, abs=0.001)


def test_little_coverage_can_be_asked_for() -> None:
    load("MKG-Y")
    graph = load_graph(DATA / "MKG-Y", coverage=0)
    assert len(graph.modalities["image"].entities) == 11
    assert "Cambodia" in {graph.entity_labels[i] for i in graph.modalities["image"].entities}


def test_numeric_literals() -> None:
    graph, _, _ = load("FB15k-237")
    numeric = graph.modalities["numeric"].features
    assert numeric.shape == (12316, 98)
    for column in range(0, 98, 2):
        values = numeric[numeric[:, column + 1] == 1, column]
        assert abs(values.mean()) < 1e-4
        assert values.std() == pytest.approx(1, abs=1e-3)
        assert not numeric[numeric[:, column + 1] == 0, column].any()
