"""What the explorer records: sampled queries, filtered answers, choices, and the page's data."""

import base64
import io
import json
import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from agents.answers import (
    FILE,
    SAMPLED,
    answers_of,
    chosen_for,
    read_answers,
    sample_valid,
    write_answers,
)
from agents.explorer import Explorer
from agents.registry import agent_spec
from agents.trial import load_trained_student, run_trial
from agents.trial_config import TrialConfig
from graphs import MultimodalGraph, Queries, load_graph
from students.evaluation import ranking_of
from students.scorer import Scorer
from tests.agents.conftest import SMALL, make_env

NAMES = ("ant", "bee", "cat", "dog", "<b>eel")


class Table(Scorer):
    """Says of every query what stands in a table `[entities, 2R, entities]`."""

    def __init__(self, scores: Tensor) -> None:
        super().__init__()
        self.scores = scores
        self.num_entities, self.num_relations = len(scores), scores.shape[1] // 2

    def entity_vectors(self) -> Tensor:
        return torch.eye(self.num_entities)

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        return self.scores[entities, relations]

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        return []

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        return torch.zeros(len(entities), 3)


@pytest.fixture
def tiny() -> MultimodalGraph:
    """One relation. Ant eats bee and cat (train), dog (valid), and eel (test)."""
    pictures = np.zeros((2, 4, 4, 3), dtype=np.uint8)
    pictures[0, :, :, 0], pictures[1, :, :, 2] = 255, 255
    return MultimodalGraph(
        name="tiny",
        triples={
            "train": np.array([[0, 0, 1], [0, 0, 2]]),
            "valid": np.array([[0, 0, 3]]),
            "test": np.array([[0, 0, 4]]),
        },
        entity_labels=NAMES,
        relation_labels=("eats",),
        entity_texts=("small", None, "x" * 500, None, None),
        thumbnails=pictures,
        thumbnail_entities=np.array([0, 3]),
        metadata={"entity_types": ["insect", "insect", "mammal", "mammal", "fish"]},
    )


@pytest.fixture
def teacher() -> Table:
    """Asked what ant eats it says bee, eel, dog, cat, ant; everything else is a tie."""
    scores = torch.zeros(5, 2, 5)
    scores[0, 0] = torch.tensor([0.0, 3.0, 0.5, 1.0, 2.0])
    return Table(scores)


def test_answers_are_filtered_and_never_read_test(tiny: MultimodalGraph, teacher: Table) -> None:
    answers = answers_of(teacher, tiny, tiny.queries("valid"))
    # Bee and cat are known; eel is a test answer, so nobody may know and it stays a rival. Asked
    # for heads of dog all five tie, at rank 3.
    assert answers["ranks"] == [2.0, 3.0]
    mass = math.exp(2) + math.exp(1) + 1
    shares = [(4, math.exp(2) / mass), (3, math.exp(1) / mass), (0, 1 / mass)]
    assert answers["top"][0] == [[entity, round(1000 * share)] for entity, share in shares]
    assert [share for _, share in answers["top"][1]] == [200] * 5
    json.dumps(answers)


def test_every_relation_and_direction_has_its_turn(small_graph: MultimodalGraph) -> None:
    queries = small_graph.queries("valid")
    counts = np.bincount(queries.relations, minlength=8)
    few = sample_valid(small_graph, 17)
    assert len(few) == 17
    taken = np.bincount(few.relations, minlength=8)
    # Dealt out one by one, so no relation that has more left is two behind another.
    assert all(taken[r] == counts[r] or taken[r] >= taken.max() - 1 for r in range(8))
    rows = set(zip(queries.entities, queries.relations, queries.answers, strict=True))
    drawn = list(zip(few.entities, few.relations, few.answers, strict=True))
    assert set(drawn) <= rows
    assert len(set(drawn)) == 17
    assert drawn == sorted(drawn, key=lambda row: (row[1], row[0], row[2]))
    assert len(sample_valid(small_graph)) == min(SAMPLED, len(queries))


def test_looking_at_training_queries_shows_what_agents_see() -> None:
    """The one set of queries for which it is known what must come out."""
    classroom = make_env(judged_folds=None, hide=()).classroom
    rows = np.arange(40, 60)
    asked = classroom.asking(classroom.queries[rows])
    here, there = classroom.lesson(rows), asked.lesson(np.arange(20))
    np.testing.assert_allclose(classroom.observe(here), asked.observe(there), atol=2e-3)
    # And what the classroom itself teaches is as before.
    assert len(classroom.queries) > 20
    assert classroom.store is not asked.store


def test_folds_take_turns() -> None:
    """Every teacher is a stranger to these queries, so each answers its share of them."""
    classroom = make_env(judged_folds=2, hide=()).classroom
    queries = sample_valid(classroom.graph, 10)
    asked = classroom.asking(queries)
    assert asked.store is not asked.judged_store
    from teachers.pretraining import load_teachers

    pretraining = classroom.config.pretraining
    models = load_teachers(classroom.taught_graph, ["text"], pretraining, 2)["text"]
    column = classroom.teachers.index("text")
    for row in range(10):
        entity, relation = (
            torch.from_numpy(ids[row : row + 1]) for ids in (queries.entities, queries.relations)
        )
        says = models[row % 2](entity, relation).log_softmax(1)[0, queries.answers[row]]
        stored = asked.judged_store.features[row, column, 0]
        assert stored == pytest.approx(float(says.detach()), abs=1e-4)


@pytest.mark.parametrize("agent", ["random:once", "cycle", "oracle:oof", "all-then-cycle"])
def test_who_decides_by_training_query_says_nothing(agent: str) -> None:
    classroom = make_env().classroom
    spec = agent_spec(agent, classroom.teachers)
    assert spec.policy is not None
    policy = spec.policy()
    rng = np.random.default_rng(0)
    queries = sample_valid(classroom.graph, 4)
    choose = lambda asked, lesson: policy.would_choose(asked, lesson, rng)  # noqa: E731
    assert chosen_for(classroom, queries, choose) is None


def test_a_trial_records_its_student_before_and_after(
    tmp_path: Path, small_trial: dict[str, Any]
) -> None:
    config = TrialConfig("ppo", seed=3, **small_trial)
    result = run_trial(config, tmp_path)
    # Recording must not change what is recorded.
    plain = run_trial(config)
    assert {**plain, "seconds": 0} == {**result, "seconds": 0}
    record = read_answers(tmp_path, config.key)
    assert record is not None
    student, graph = load_trained_student(tmp_path)
    queries = sample_valid(graph)
    assert record["after"] == answers_of(student, graph, queries)
    every, ranks = ranking_of(student, graph, "valid")
    by_query = {
        row[:3]: row[3]
        for row in zip(every.entities, every.relations, every.answers, ranks, strict=True)
    }
    asked = zip(queries.entities, queries.relations, queries.answers, strict=True)
    assert record["after"]["ranks"] == [by_query[row] for row in asked]
    env: Any = gym.make_vec(
        "DSoM-v0", num_envs=8, dataset=SMALL, **(small_trial["environment"] | {"reward": "gate"})
    )
    env.reset(seed=3)
    untrained = env.unwrapped.classroom.trainer.scorer
    assert record["before"] == answers_of(untrained, graph, queries)
    assert record["kind"] == "probability"
    chosen = np.array(record["chosen"])
    assert chosen.shape == (len(queries), len(record["teachers"]))
    assert ((chosen >= 0) & (chosen <= 1)).all()
    assert len(np.unique(chosen.round(2), axis=0)) > 1


def test_choices_of_constant_policies(tmp_path: Path, small_trial: dict[str, Any]) -> None:
    config = TrialConfig("single:text", **small_trial)
    run_trial(config, tmp_path)
    record = read_answers(tmp_path, config.key)
    assert record is not None
    assert record["kind"] == "mask"
    text = [float(name == "text") for name in record["teachers"]]
    assert record["chosen"] == [text] * len(record["after"]["ranks"])


def test_records_of_others_are_none(tmp_path: Path) -> None:
    assert read_answers(tmp_path, "a") is None
    write_answers(tmp_path, "a", {"seed": 0})
    assert read_answers(tmp_path, "a") == {"format": 1, "key": "a", "seed": 0}
    assert read_answers(tmp_path, "b") is None
    (tmp_path / FILE).write_text("[]")
    assert read_answers(tmp_path, "a") is None
    (tmp_path / FILE).write_text("{")
    assert read_answers(tmp_path, "a") is None


def record_of(seed: int, rank: float) -> dict[str, Any]:
    before = {"ranks": [4.0 + seed, 3.0], "top": [[[4, 400]], [[2, 300]]]}
    after = {"ranks": [rank, 1.0], "top": [[[3, 900]], [[0, 800]]]}
    return {
        "seed": seed,
        "kind": "mask",
        "teachers": ["one"],
        "chosen": [[1.0], [0.0]],
        "before": before,
        "after": after,
    }


def test_the_document_by_hand(tiny: MultimodalGraph, teacher: Table) -> None:
    # No ties here: bee, cat, ant, dog, eel.
    teacher.scores[3, 1] = torch.tensor([0.0, 0.2, 0.1, -1.0, -2.0])
    explorer = Explorer.of(tiny, {"one": teacher})
    document = explorer.document({"all": record_of(0, 1.0), "ppo": record_of(0, 2.0)})
    assert json.loads(json.dumps(document)) == document
    # Query entities first, then answers, then what was answered: ant, dog, eel, bee, cat.
    assert document["names"] == ["ant", "dog", "<b>eel", "bee", "cat"]
    assert document["types"] == ["insect", "mammal", "fish", "insect", "mammal"]
    # Ant eats dog; bee and cat are known beside it. Dog is eaten by ant and nobody else.
    assert document["queries"] == [[0, 0, 0, 1, 2], [1, 0, 1, 0, 0]]
    assert document["about"][0] == {"text": "small", "facts": [[0, 0, 3], [0, 0, 4]], "triples": 2}
    assert document["about"][1] == {"text": None, "facts": [], "triples": 0}
    assert document["valid"] == 2
    assert document["teachers"][0]["ranks"] == [2.0, 3.0]
    assert document["teachers"][0]["top"][0][::2] == [2, 1, 0]
    # The untrained student is the same for both agents of the seed.
    assert [one["seed"] for one in document["before"]] == [0]
    assert [(one["name"], one["before"]) for one in document["agents"]] == [("all", 0), ("ppo", 0)]
    assert document["agents"][1]["ranks"] == [2.0, 1.0]
    assert document["agents"][1]["top"] == [[1, 900], [0, 800]]
    apart = explorer.document({"all": record_of(0, 1.0), "ppo": record_of(1, 2.0)})
    assert [one["before"] for one in apart["agents"]] == [0, 1]


def test_pictures_lie_side_by_side(tiny: MultimodalGraph, teacher: Table) -> None:
    pictures = Explorer.of(tiny, {"one": teacher}).document({})["pictures"]
    assert pictures["of"] == [0, 1]
    sheet = Image.open(io.BytesIO(base64.b64decode(pictures["png"]))).convert("RGB")
    assert sheet.size == (64, 32)
    assert sheet.getpixel((5, 5)) == (255, 0, 0)
    assert sheet.getpixel((37, 5)) == (0, 0, 255)


def test_graphs_without_pictures_and_texts(small_graph: MultimodalGraph) -> None:
    queries = Queries(*(ids[:3] for ids in (np.arange(3), np.zeros(3, int), np.arange(3))))
    answers = {"ranks": [1.0] * 3, "top": [[]] * 3}
    document = Explorer(small_graph, queries, {"one": answers}).document({})
    assert document["pictures"] is None
    assert document["about"][0]["text"] is None or isinstance(document["about"][0]["text"], str)


def test_the_embedded_graph_stays_small() -> None:
    """Thirty agents' worth of answers and every picture that may be there: well below 3 MB."""
    graph = load_graph("emoji")
    queries, rng = sample_valid(graph), np.random.default_rng(0)
    count = len(queries)
    assert count == SAMPLED

    def answers() -> dict[str, Any]:
        return {
            "ranks": rng.integers(1, 3000, count).astype(float).tolist(),
            "top": [[[int(e), 123] for e in rng.integers(0, 3587, 5)] for _ in range(count)],
        }

    before = answers()
    record = {"seed": 0, "kind": "probability", "teachers": ["a", "b", "c", "d"], "before": before}
    records = {
        f"agent{i}": {**record, "chosen": rng.random((count, 4)).round(3).tolist()}
        | {"after": answers()}
        for i in range(30)
    }
    teachers = {name: answers() for name in record["teachers"]}
    document = Explorer(graph, queries, teachers).document(records)
    size = len(json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode())
    assert size < 2_500_000
    assert len(document["pictures"]["of"]) == 1000
