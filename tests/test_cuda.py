"""A CUDA device does what the CPU does, up to rounding; skipped where there is none."""

from dataclasses import replace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from dsom_env.config import usual_teachers
from dsom_env.rewards import REWARDS
from graphs import MultimodalGraph
from graphs.tasks import cut_tasks
from students.batching import shuffled_batches
from students.distillation import DistillationConfig
from students.evaluation import evaluate_ranking
from students.registry import STUDENTS, make_student
from students.training import Trainer, TrainingConfig
from teachers.amid import CotrainingConfig
from teachers.attention import AttentionKeeping
from teachers.cotraining import Record
from teachers.lineage import load_descendant
from teachers.modulation import Modulation
from teachers.pretraining import PretrainingConfig, load_teachers, pretrain
from teachers.questioning import build_store
from tests.conftest import SMALL

pytestmark = pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")

CONFIG = PretrainingConfig(rank=8, max_epochs=3, evaluate_every=1, batch_size=128)
DEVICES = ("cpu", "cuda")
ENV: dict[str, Any] = {
    "dataset": SMALL,
    "rank": 8,
    "teacher_rank": 8,
    "teacher_epochs": 3,
    "horizon": 4,
}


def close(cpu: Any, cuda: Any, tolerance: float = 2e-3) -> None:
    np.testing.assert_allclose(np.asarray(cuda), np.asarray(cpu), atol=tolerance, rtol=tolerance)


@pytest.mark.parametrize("student", sorted(STUDENTS))
@pytest.mark.parametrize("neighbors", ["answer", "one_hop"])
def test_students_learn_alike(small_graph: MultimodalGraph, student: str, neighbors: Any) -> None:
    models = load_teachers(small_graph, usual_teachers(small_graph), replace(CONFIG, device="cpu"))
    store = build_store(small_graph, models, 16)
    sizes = (small_graph.num_entities, small_graph.num_relations, 8)
    queries, outcomes = small_graph.queries("train"), []
    for device in DEVICES:
        scorer = make_student(student, *sizes, torch.Generator().manual_seed(0)).to(device)
        trainer = Trainer(
            scorer,
            small_graph,
            TrainingConfig(0.1, 0.02),
            DistillationConfig(gamma=3.0, neighbors=neighbors),
        )
        generator, losses = torch.Generator().manual_seed(1), []
        for rows in shuffled_batches(queries, np.arange(len(queries)), 128, generator):
            opinions = store.opinions(rows, trainer.device)
            weights = torch.ones(len(rows), len(store.teachers), device=device)
            labels = opinions.soft_labels(weights)
            losses.append(trainer.update(trainer.forward(queries[rows]), labels).loss)
        asked = torch.from_numpy(queries.entities[:50]), torch.from_numpy(queries.relations[:50])
        outcomes.append(
            (losses, trainer.score(*asked).cpu(), evaluate_ranking(trainer.score, small_graph))
        )
    for cpu, cuda in zip(*(outcome[:2] for outcome in outcomes), strict=True):
        close(cpu, cuda)
    assert outcomes[0][2] == pytest.approx(outcomes[1][2], abs=0.01)


@pytest.mark.parametrize("sampled", [None, 40])
def test_teachers_and_what_they_say_are_alike(
    small_graph: MultimodalGraph, sampled: int | None
) -> None:
    names = (*usual_teachers(small_graph), "attentive", "roth")
    stores = []
    modulation = Modulation("own", 0.5)
    for device in DEVICES:
        config = replace(CONFIG, device=device, modulation=modulation, sampled=sampled)
        models = {name: [pretrain(small_graph, name, config)] for name in names}
        assert all(next(m[0].parameters()).device.type == device for m in models.values())
        stores.append(build_store(small_graph, models, 16))
    close(stores[0].log_tail, stores[1].log_tail, 0.05)
    close(stores[0].features, stores[1].features, 0.05)


def test_a_cotrained_teacher_is_alike(small_graph: MultimodalGraph) -> None:
    histories = []
    for device in DEVICES:
        history: list[Record] = []
        amid = CotrainingConfig(student_rank=3, width=8, warmup=1.0)
        config = replace(CONFIG, device=device, cotraining=amid)
        models = {"fused": [pretrain(small_graph, "fused", config, note=history.append)]}
        histories.append(history)
        assert build_store(small_graph, models, 16).information_names
    first, second = (
        [[r["teacher"]["loss"], r["student"]["loss"], *r["information"].values()] for r in history]
        for history in histories
    )
    close(first, second, 0.02)


def test_descendants_go_on_alike(
    small_graph: MultimodalGraph, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stream = cut_tasks(small_graph, 3, "entity")
    graphs = [stream.own(task) for task in range(3)]
    found = []
    for device in DEVICES:
        monkeypatch.setenv("DSOM_CACHE", str(tmp_path / device))
        monkeypatch.setattr("teachers.lineage._OPEN", type(_open())())
        config = replace(CONFIG, device=device, batch_size=32)
        found.append(load_descendant(graphs, "attentive", config, AttentionKeeping()))
        monkeypatch.setattr("teachers.lineage._OPEN", type(_open())())
        again = load_descendant(graphs, "attentive", config, AttentionKeeping())
        assert next(again.scorer.parameters()).device.type == device
    for name, value in found[0].sums.items():
        close(value, found[1].sums[name].cpu(), 0.02)


def _open() -> Any:
    from teachers import lineage

    return lineage._OPEN


@pytest.mark.parametrize("reward", sorted(REWARDS))
def test_every_reward_is_alike(reward: str) -> None:
    fraction = (
        {"reward_fraction": 0.1} if reward in ("heldout", "heldout_adagrad", "validation") else {}
    )
    paid = []
    for device in DEVICES:
        settings = ENV | fraction | {"reward": reward, "device": device}
        venv = gym.make_vec("DSoM-v0", num_envs=64, **settings)
        venv.reset(seed=3)
        rng, total = np.random.default_rng(0), []
        for _ in range(8):
            total.append(venv.step(rng.integers(0, 2, venv.action_space.shape))[1])
        paid.append(np.concatenate(total))
        venv.close()
    close(*paid, tolerance=0.02)


@pytest.mark.parametrize("mode", ["mask", "discrete", "weights", "tempered"])
def test_observations_are_alike(mode: str) -> None:
    seen = []
    sampled = 40 if mode in ("weights", "tempered") else None
    for device in DEVICES:
        few = {"candidates": 8, "sampled": sampled}
        env = gym.make("DSoM-v0", action_mode=mode, device=device, **few, **ENV)
        observation, _ = env.reset(seed=5)
        env.action_space.seed(1)
        rows = [observation]
        for _ in range(ENV["horizon"]):
            rows.append(env.step(env.action_space.sample())[0])
        seen.append(np.stack(rows))
        env.close()
    close(*seen, tolerance=0.02)


def test_a_stream_of_tasks_is_walked_through() -> None:
    finals = []
    for device in DEVICES:
        settings = {key: value for key, value in ENV.items() if key != "horizon"}
        venv = gym.make_vec(
            "DSoM-Continual-v0", num_envs=16, device=device, tasks=3, task_epochs=0.5, **settings
        )
        venv.reset(seed=0)
        task = 0
        while task < 2:
            masks = np.ones(venv.action_space.shape, dtype=np.int64)
            task = venv.step(masks)[-1]["next_task"][0]
        finals.append(venv.unwrapped.classroom.evaluate_seen("valid")["mrr"])
        venv.close()
    assert finals[0] == pytest.approx(finals[1], abs=0.03)
