"""The benchmark's own arithmetic and shape, never how fast anything is."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from benchmarks import evaluation, memory, peers, subjects
from benchmarks.measuring import Settings, Target, ratio, scaled
from benchmarks.student import OurEpochs, Products, rows_of

from graphs import MultimodalGraph
from students.complex import ComplEx
from students.forward import Forward
from tests.programs import program
from tests.students.test_evaluation import random_graph

ROOT = Path(__file__).parents[1]
SMALL_SIZES = ("--rank", "8", "--batch", "64", "--steps", "4", "--repetitions", "1")


def bench(*arguments: object) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, str(ROOT / "scripts" / "bench.py"), *map(str, arguments)]
    return subprocess.run(command, capture_output=True, text=True, env=os.environ, cwd=ROOT)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A small graph in OpenKE's format."""
    graph = random_graph(0)
    for name, labels in (
        ("entity", graph.entity_labels),
        ("relation", graph.relation_labels),
    ):
        lines = [str(len(labels)), *(f"{label}\t{number}" for number, label in enumerate(labels))]
        (tmp_path / f"{name}2id.txt").write_text("\n".join(lines) + "\n")
    for split, triples in graph.triples.items():
        lines = [str(len(triples)), *(f"{h} {t} {r}" for h, r, t in triples.tolist())]
        (tmp_path / f"{split}2id.txt").write_text("\n".join(lines) + "\n")
    return tmp_path


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--only", "studnt"], "student"),
        (["--only", "student"], "--graph"),
        (["--graph", "nowhere"], "nowhere"),
        (["--only", "products", "--repetitions", "0"], "repetitions"),
        (["--only", "products", "--threads", "0"], "--threads"),
    ],
)
def test_bad_input_is_one_sentence(arguments: list[str], says: str, tmp_path: Path) -> None:
    done = program("bench.py", *arguments, "--out", tmp_path / "out.json")
    assert done.returncode == 2
    assert says in done.stderr.strip().splitlines()[-1]
    assert "Traceback" not in done.stderr
    assert not (tmp_path / "out.json").exists()


def test_every_section_of_a_graph_reports_all_repetitions(folder: Path, tmp_path: Path) -> None:
    out = tmp_path / "runs" / "bench.json"
    sections = "rows,student,evaluation,store,profile"
    done = bench("--graph", folder, "--only", sections, *SMALL_SIZES, "--out", out)
    assert done.returncode == 0, done.stderr
    document = json.loads(out.read_text("utf-8"))
    assert document["threads"] == 1
    assert document["denormals"] == "flushed to zero"
    assert set(document["sections"]) == set(sections.split(","))
    student = document["sections"]["student"]
    assert all(len(times) == 1 for times in student["seconds_per_epoch"].values())
    assert student["rows_per_epoch"]["ours"] >= student["rows_per_epoch"]["PyKEEN"]
    assert student["measured_steps"] == {"64": 4, "256": 4}
    assert len(document["targets"]) == 5
    for target in document["targets"]:
        assert f"{target['value']:.3f}" in done.stdout
        at_most = target["sense"] == "at most"
        assert target["met"] == (
            target["value"] <= target["bound"] if at_most else target["value"] >= target["bound"]
        )


def test_without_pykeen_one_sentence_names_the_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pykeen", None)
    with pytest.raises(ValueError, match=r"\.\[test\]"):
        peers.require()


def test_ratios_pair_repetitions_and_targets_know_their_side() -> None:
    assert ratio([1.0, 8.0, 3.0], [2.0, 4.0, 3.0]) == 1.0
    assert Target("a", 0.3, 0.33, True).met
    assert not Target("a", 0.3, 0.33, False).met
    assert scaled(2.0, 4, 10) == 5.0
    with pytest.raises(ValueError, match="scale 0"):
        scaled(2.0, 0, 10)


def test_a_sample_keeps_whole_relations(small_graph: MultimodalGraph) -> None:
    train = small_graph.triples["train"]
    part = subjects.sample(small_graph, len(train) // 2, 0).triples["train"]
    assert len(train) // 4 <= len(part) < len(train)
    for relation in np.unique(part[:, 1]):
        assert (part[:, 1] == relation).sum() == (train[:, 1] == relation).sum()
    assert subjects.sample(small_graph, None, 0) is small_graph


def test_products_have_the_rows_of_the_forward_pass(small_graph: MultimodalGraph) -> None:
    ours = OurEpochs(small_graph, Settings(rank=4, batch=64), None)
    batch = ours.queries[ours.batches()[0]]
    forward = Forward(ours.trainer.scorer, batch, torch.device("cpu"))
    assert rows_of(batch) == len(forward.firsts)
    products = Products(ours, small_graph.num_entities, 8)
    assert len(products.rows) == len(ours.batches())
    assert products.epoch() > 0


def test_pykeen_gets_our_tables() -> None:
    graph = random_graph(0)
    generator = torch.Generator().manual_seed(0)
    ours = ComplEx(graph.num_entities, graph.num_relations, 4, generator=generator, init_scale=1.0)
    triples = peers.factory(graph)
    theirs = peers.model("ComplEx", triples, 4, 0)
    evaluation.copy_tables(ours, theirs)
    asked = torch.from_numpy(graph.triples["test"])
    with torch.no_grad():
        tails = theirs.predict_t(asked[:, :2])
        heads = theirs.predict_h(asked[:, 1:])
        torch.testing.assert_close(tails, ours(asked[:, 0], asked[:, 1]))
        torch.testing.assert_close(heads, ours(asked[:, 2], asked[:, 1] + graph.num_relations))


def test_a_memory_point_is_numbers() -> None:
    sizes = {**memory.SMALL, "queries": 200, "top_k": 4}
    small, big = (memory.point(**sizes, entities=count) for count in (50, 5000))
    assert big["tables"] > 50 * small["tables"]
    assert 0 < small["imports"] < small["peak"]
    assert small["store_file"] > 0
    with pytest.raises(ValueError, match="memory point"):
        memory.point(graph="nowhere", **{k: v for k, v in sizes.items() if k != "queries"})


def test_modalities_are_those_of_the_teachers(small_graph: MultimodalGraph) -> None:
    graph = subjects.with_modalities(small_graph)
    assert ("structure", *graph.modalities) == subjects.TEACHERS
    assert dataclasses.replace(graph, modalities={}).fingerprint != graph.fingerprint
