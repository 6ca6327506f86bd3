"""The Junior's candidates against brute force, and what they do to soft labels."""

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from dsom_env.config import DSoMConfig
from dsom_env.junior import junior_candidates
from tests.conftest import SMALL


def make_env(**kwargs: object) -> gym.vector.VectorEnv:
    small = {"dataset": SMALL, "rank": 8, "teacher_rank": 8, "reward": "gate"}
    env = gym.make_vec("DSoM-v0", num_envs=32, **(small | kwargs))
    env.reset(seed=0)
    env.step(env.action_space.sample() * 0 + 1)
    return env


def test_candidates_are_the_best_the_answer_and_some_others() -> None:
    # Kept: older versions of Gymnasium close an environment that nobody holds.
    env = make_env()
    classroom = env.unwrapped.classroom
    forward = classroom.lesson(np.arange(40)).forward
    generator = torch.Generator().manual_seed(5)
    rows, entities = junior_candidates(forward, 7, 4, generator)
    drawn = torch.randint(160, (40, 4), generator=torch.Generator().manual_seed(5)).numpy()
    logits = forward.logits[forward.row_of].numpy()
    for row in range(40):
        best = np.argsort(-logits[row])[:7]
        expected = {*best.tolist(), *drawn[row].tolist(), int(forward.answers[row])}
        assert entities[rows == row].tolist() == sorted(expected)
    assert (rows.diff() >= 0).all()
    everything = junior_candidates(forward, 1000, 0, generator)
    assert torch.equal(everything.entities, torch.arange(160).repeat(40))


def test_labels_are_about_the_candidates_whoever_chooses() -> None:
    env = make_env(candidates=5, random_candidates=3)
    lesson = env.unwrapped.lessons.lesson
    assert lesson.candidates is not None
    weights = np.ones((32, len(env.unwrapped.teachers)), dtype=np.float32)
    (label,) = env.unwrapped.classroom.soft_labels(lesson, weights)
    assert torch.equal(label.entities, lesson.candidates.entities)
    torch.testing.assert_close(label.dense().sum(1), torch.ones(32))
    counts = torch.bincount(label.rows)
    assert counts.max() <= 9
    assert counts.min() >= 5
    # Other agents see the same students ask the same.
    other = make_env(candidates=5, random_candidates=3, reward="improvement")
    again = other.unwrapped.lessons.lesson
    assert torch.equal(again.candidates.entities[:20], lesson.candidates.entities[:20])


@pytest.mark.parametrize("reward", ["gate", "filtered_gate", "heldout", "advantage"])
def test_every_reward_can_price_them(reward: str) -> None:
    env = make_env(candidates=5, random_candidates=3, reward=reward)
    _, rewards, *_ = env.step(env.action_space.sample() * 0 + 1)
    assert np.isfinite(rewards).all()
    assert (rewards > 0).any()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ({"candidates": -1}, "candidates must be a whole number"),
        ({"candidates": 2.0}, "candidates must be a whole number"),
        ({"random_candidates": None}, "random_candidates must be a whole number"),
        ({"candidates": 0, "random_candidates": 0}, "needs some of either"),
        ({"sampled": 64}, "sampled=64 needs candidates"),
        ({"sampled": 0, "candidates": 4}, "sampled must be a whole number of at least 1"),
        ({"teacher_sampled": 1.5}, "teacher_sampled must be a whole number"),
        ({"teacher_sampled": 9, "teacher_objective": "amid"}, "teacher_sampled must be None"),
        ({"student": "roth", "rank": 7}, "rank: roth turns pairs of coordinates"),
        ({"teachers": ["atth"], "teacher_rank": 7}, "teacher_rank: atth turns pairs"),
    ],
)
def test_bad_sizes_are_named(arguments: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        DSoMConfig(**arguments)  # type: ignore[arg-type]


SAMPLED = {"candidates": 6, "random_candidates": 4, "sampled": 30}


def test_candidates_are_of_the_sample() -> None:
    env = make_env(**SAMPLED)
    lesson = env.unwrapped.lessons.lesson
    sample = lesson.learned.sample
    assert len(sample.entities) < 160
    assert torch.isin(lesson.candidates.entities, sample.entities).all()
    logits = lesson.forward.logits[lesson.forward.row_of][:, sample.entities]
    weighted = logits + sample.log_weights
    for row, best in enumerate(weighted.topk(6, dim=1).indices):
        asked = lesson.candidates.entities[lesson.candidates.rows == row]
        assert torch.isin(sample.entities[best], asked).all()


@pytest.mark.parametrize("reward", ["gate", "improvement", "heldout", "advantage"])
def test_learning_among_a_sample_goes_on_from_a_snapshot(reward: str) -> None:
    """The same rewards and the same student, bit for bit, whoever was interrupted."""
    one, other = make_env(reward=reward, **SAMPLED), make_env(reward=reward, **SAMPLED)
    snapshot = one.unwrapped.lessons.snapshot()
    actions = one.action_space.sample() * 0 + 1
    expected = [one.step(actions)[1] for _ in range(3)]
    other.step(actions)
    other.unwrapped.lessons.restore(snapshot)
    found = [other.step(actions)[1] for _ in range(3)]
    np.testing.assert_array_equal(found, expected)
    assert np.isfinite(expected).all()
    after = one.unwrapped.classroom.state_dict()["scorer"]["entity_table"]
    again = other.unwrapped.classroom.state_dict()["scorer"]["entity_table"]
    assert torch.equal(after, again)


def test_improvement_is_measured_among_everybody() -> None:
    """A sample of everybody pays what no sample pays."""
    few = {
        "candidates": 6,
        "random_candidates": 0,
        "reward": "improvement",
        "control_fraction": 0.0,
    }
    actions = make_env().action_space.sample() * 0 + 1
    paid = []
    for sampled in (None, 160):
        env = make_env(sampled=sampled, **few)
        paid.append(env.step(actions)[1])
    np.testing.assert_allclose(paid[0], paid[1], rtol=1e-3, atol=1e-5)
    assert paid[0].any()
