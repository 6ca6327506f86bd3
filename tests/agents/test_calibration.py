"""Preferences beside benefits: the benefit by following its gradient, the table by hand."""

from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from stable_baselines3 import A2C, DQN
from stable_baselines3.common.distributions import (
    BernoulliDistribution,
    CategoricalDistribution,
    DiagGaussianDistribution,
    MultiCategoricalDistribution,
)
from torch.nn import functional as F

import dsom_env as _registration  # noqa: F401
from agents.calibration import (
    benefits_of,
    calibrate,
    compare_columns,
    learned_preferences,
    sample_rows,
    teacher_probabilities,
)
from dsom_env.sb3 import SB3VecEnv
from tests.agents.conftest import SMALL


def make(**kwargs: Any) -> Any:
    settings = {"dataset": SMALL, "rank": 8, "teacher_rank": 8, **kwargs}
    env = gym.make_vec("DSoM-v0", num_envs=64, **settings)
    env.reset(seed=0)
    return env


@pytest.mark.parametrize("gamma", [1.0, 3.0])
def test_benefit_is_the_slope_of_the_held_out_loss(gamma: float) -> None:
    """Step along one teacher's distillation gradient of one query, and measure what it does."""
    env = make(reward="heldout", gamma=gamma)
    for _ in range(10):
        env.step(np.ones((64, 4), dtype=np.int8))
    classroom = env.unwrapped.classroom
    trainer = classroom.trainer
    held_out = classroom.queries[classroom.withheld_rows]
    rows = classroom.taught_rows[[3, 40]]
    measured = benefits_of(classroom, classroom.lesson(rows), trainer.gradient(held_out))
    ids = [torch.from_numpy(part) for part in (held_out.entities, held_out.relations)]
    answers = torch.from_numpy(held_out.answers)

    def loss(scorer: Any) -> float:
        with torch.no_grad():
            return float(F.cross_entropy(scorer.double()(*ids), answers))

    for row, position in enumerate(rows.tolist()):
        for k in range(4):
            lesson = classroom.lesson(np.array([position]))
            mask = np.zeros((1, 4), dtype=np.float32)
            mask[0, k] = 1
            gradients = []
            for labels in (classroom.soft_labels(lesson, mask), []):
                twin = trainer.fork()
                twin.pull_back(twin.forward(lesson.queries), labels, regularised=False)
                gradients.append([p.grad for p in twin.scorer.parameters()])
            around = []
            step = 1e-3
            for sign in (1, -1):
                twin = trainer.fork().scorer.double()
                with torch.no_grad():
                    for p, taught, plain in zip(twin.parameters(), *gradients, strict=True):
                        p -= sign * step * (taught - plain).double()
                around.append(loss(twin))
            slope = (around[1] - around[0]) / (2 * step)
            assert measured[row, k] == pytest.approx(slope, rel=2e-3, abs=1e-6)


def test_asked_and_held_out_share_no_triple() -> None:
    env = make()
    classroom = env.unwrapped.classroom
    triples = len(classroom.graph.triples["train"])
    probed, held_out = sample_rows(classroom, np.random.default_rng(0))
    assert len(probed) == triples // 2
    assert len(held_out) == 2 * (triples - len(probed))
    assert not np.intersect1d(probed % triples, held_out % triples).size
    assert 0.3 < (probed >= triples).mean() < 0.7, "both directions are asked"
    split = make(reward="heldout").unwrapped.classroom
    probed, held_out = sample_rows(split, np.random.default_rng(0))
    assert set(held_out) == set(split.withheld_rows)
    assert set(probed) <= set(split.taught_rows)


def test_calibration_leaves_the_student_alone_and_says_what_was_held_out() -> None:
    for kwargs, says in (({}, "training queries"), ({"reward": "heldout"}, "reward split")):
        env = make(**kwargs)
        env.step(np.ones((64, 4), dtype=np.int8))
        classroom = env.unwrapped.classroom
        before = classroom.state_dict()
        rng = np.random.default_rng(0)
        seen = []

        def prefer(lesson: Any, seen: Any = seen, rng: Any = rng) -> Any:
            seen.append(rng.random((len(lesson.rows), 4)))
            return seen[-1]

        found = calibrate(classroom, prefer, "probability", seed=3)
        after = classroom.state_dict()
        assert before["steps"] == after["steps"]
        for name, value in before["scorer"].items():
            assert torch.equal(value, after["scorer"][name])
        assert found["held_out"] == says
        assert list(found["teachers"]) == ["structure", "image", "text", "fused"]
        preferences = np.concatenate(seen)
        assert len(preferences) == found["queries"]
        for k, teacher in enumerate(found["teachers"].values()):
            assert teacher["preference"] == pytest.approx(preferences[:, k].mean())
            assert sum(part["count"] for part in teacher["bins"]) == found["queries"]


def test_table_by_hand() -> None:
    preference = np.array([0.0, 0.05, 0.1, 0.95, 1.0])
    benefit = np.array([1.0, 3.0, 5.0, -2.0, 2.0])
    table = compare_columns(preference, benefit)
    assert table["preference"] == pytest.approx(0.42)
    assert table["benefit"] == pytest.approx(1.8)
    # Deviations −.8, 1.2, 3.2, −3.8, .2: squares add up to 26.8.
    assert table["error"] == pytest.approx((26.8 / 4 / 5) ** 0.5)
    # Ranks 1..5 and 2, 4, 5, 1, 3: squared gaps 1, 4, 4, 9, 4.
    assert table["spearman"] == pytest.approx(1 - 6 * 22 / (5 * 24))
    low, single, high = table["bins"]
    assert (low["low"], low["high"], low["count"], low["benefit"]) == (0.0, 0.1, 2, 2.0)
    assert low["error"] == pytest.approx(1.0)
    assert (single["low"], single["count"], single["error"]) == (0.1, 1, None)
    assert (high["high"], high["count"], high["preference"]) == (1.0, 2, pytest.approx(0.975))
    assert compare_columns(np.ones(5), benefit)["spearman"] is None


def test_probabilities_of_every_form_of_action() -> None:
    """Three teachers; logits whose probabilities are known."""
    bits = BernoulliDistribution(3)
    chances = torch.tensor([[0.2, 0.5, 0.9], [0.1, 0.4, 0.6]])
    bits.proba_distribution(torch.logit(chances))
    np.testing.assert_allclose(teacher_probabilities(bits, 3), chances.numpy(), atol=1e-6)
    pairs = MultiCategoricalDistribution([2, 2, 2])
    pairs.proba_distribution(torch.stack([(1 - chances).log(), chances.log()], 2).reshape(2, 6))
    np.testing.assert_allclose(teacher_probabilities(pairs, 3), chances.numpy(), atol=1e-6)
    subsets = CategoricalDistribution(8)
    # Subsets 1 (the first alone) .1, 3 (the first two) .2, 4 (the last alone) .3, 0 (none) .4.
    mass = torch.tensor([[0.4, 0.1, 0.0, 0.2, 0.3, 0.0, 0.0, 0.0]])
    subsets.proba_distribution(mass.log())
    np.testing.assert_allclose(teacher_probabilities(subsets, 3), [[0.3, 0.2, 0.3]], atol=1e-6)
    with pytest.raises(TypeError, match="DiagGaussian"):
        teacher_probabilities(
            DiagGaussianDistribution(3).proba_distribution(torch.zeros(1, 3), torch.zeros(3)), 3
        )


@pytest.mark.parametrize("mode", ["mask", "multidiscrete", "discrete"])
def test_a_policys_probabilities_are_how_often_it_chooses(mode: str) -> None:
    env = make(action_mode=mode)
    model = A2C("MlpPolicy", SB3VecEnv(env), seed=0, device="cpu")
    classroom = env.unwrapped.classroom
    prefer, kind = learned_preferences(model, classroom, mode)
    assert kind == "probability"
    lesson = classroom.lesson(classroom.taught_rows[:64])
    expected = prefer(lesson)
    observation = classroom.observe(lesson)
    drawn = []
    for _ in range(400):
        actions, _ = model.predict(observation, deterministic=False)
        array = np.asarray(actions)
        drawn.append((array[:, None] >> np.arange(4)) & 1 if mode == "discrete" else array)
    # Five standard deviations of 400 draws of the most uncertain of bits.
    np.testing.assert_allclose(np.mean(drawn, axis=0), expected, atol=5 * 0.5 / 20)
    assert np.mean(drawn) == pytest.approx(expected.mean(), abs=0.01)


def test_without_probabilities_it_is_the_mask_that_is_thought_best() -> None:
    env = make(action_mode="discrete")
    model = DQN("MlpPolicy", SB3VecEnv(env), seed=0, device="cpu", buffer_size=64)
    classroom = env.unwrapped.classroom
    prefer, kind = learned_preferences(model, classroom, "discrete")
    assert kind == "mask"
    lesson = classroom.lesson(classroom.taught_rows[:64])
    with torch.no_grad():
        values = model.q_net(torch.from_numpy(classroom.observe(lesson)))
    best = values.argmax(1).numpy()
    np.testing.assert_array_equal(prefer(lesson), (best[:, None] >> np.arange(4)) & 1)


@pytest.mark.parametrize("mode", ["weights", "tempered"])
def test_weights_are_those_of_the_mean_action(mode: str) -> None:
    env = make(action_mode=mode)
    model = A2C("MlpPolicy", SB3VecEnv(env), seed=0, device="cpu")
    classroom = env.unwrapped.classroom
    prefer, kind = learned_preferences(model, classroom, mode)
    assert kind == "weight"
    lesson = classroom.lesson(classroom.taught_rows[:64])
    with torch.no_grad():
        inner = model.policy.get_distribution(torch.from_numpy(classroom.observe(lesson)))
        mean = inner.distribution.mean.clamp(-1, 1)[:, :4]
    np.testing.assert_allclose(prefer(lesson), (mean.numpy() + 1) / 2, atol=1e-6)


def test_small_graphs_are_shared_evenly() -> None:
    classroom = SimpleNamespace(
        taught_rows=np.array([0, 1, 2, 5, 6, 7]), withheld_rows=np.array([])
    )
    probed, held_out = sample_rows(classroom, np.random.default_rng(0))  # type: ignore[arg-type]
    assert len(probed) == 1
    assert len(held_out) == 4
    assert set(probed % 5) | set(held_out % 5) == {0, 1, 2}
