"""Learners of ours: textbook posteriors, doubt as it says, and what taught is what counts."""

import math
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.torch
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

import dsom_env as _registration  # noqa: F401
from agents.bandits import LinearRewards, LinearThompson, LinUCB, NeuralEpsilonGreedy
from agents.mtkd_rl import MTKDRL, competence
from agents.per_query import make_network
from agents.rl_kd import RLKD
from agents.trial import run_trial, train_student
from agents.trial_config import TrialConfig
from dsom_env.sb3 import SB3VecEnv
from students.training import DivergedError
from tests.agents.conftest import SMALL
from tests.agents.test_trial import assert_documented


def make(**kwargs: Any) -> SB3VecEnv:
    arguments: dict[str, Any] = {"dataset": SMALL, "rank": 8, "teacher_rank": 8, "reward": "gate"}
    arguments |= {"judged_folds": None, "action_mode": "discrete", "teachers": ["image", "text"]}
    env = SB3VecEnv(gym.make_vec("DSoM-v0", num_envs=64, **(arguments | kwargs)))
    env.seed(0)
    return env


def test_the_posterior_is_ridge_regression_batch_by_batch() -> None:
    rng = np.random.default_rng(0)
    seen = rng.normal(size=(60, 3)).astype(np.float32)
    arms, paid = rng.integers(0, 2, 60), rng.normal(size=60).astype(np.float32)
    model = LinearRewards(3, 3, ridge=0.5, memory=1.0)
    for part in (slice(0, 25), slice(25, 60)):
        model.fit(seen[part], torch.from_numpy(arms[part]), torch.from_numpy(paid[part]))
    asked = rng.normal(size=(7, 3)).astype(np.float32)
    expected, widths = model(asked), model.widths(asked)
    x = np.hstack([asked, np.ones((7, 1))])
    for arm in range(3):
        rows = np.hstack([seen, np.ones((60, 1))])[arms == arm]
        inverse = np.linalg.inv(0.5 * np.eye(4) + rows.T @ rows)
        theta = inverse @ rows.T @ paid[arms == arm]
        np.testing.assert_allclose(expected[:, arm], x @ theta, rtol=1e-5, atol=1e-6)
        doubt = np.sqrt(np.einsum("nd,de,ne->n", x, inverse, x))
        np.testing.assert_allclose(widths[:, arm], doubt, rtol=1e-5)
    # Of an arm that nobody pulled nothing is known but the prior.
    assert not expected[:, 2].any()
    np.testing.assert_allclose(widths[:, 2], np.linalg.norm(x, axis=1) / math.sqrt(0.5), rtol=1e-5)


def test_a_short_memory_follows_rewards_that_change() -> None:
    x = np.ones((200, 1), dtype=np.float32)
    arms = torch.zeros(200, dtype=torch.int64)
    said = {}
    for memory in (1.0, 0.5):
        model = LinearRewards(1, 1, ridge=1e-3, memory=memory)
        for paid in (1.0,) * 10 + (-1.0,) * 10:
            model.fit(x, arms, torch.full((200,), paid))
        said[memory] = float(model(x[:1]))
    assert said[1.0] == pytest.approx(0.0, abs=1e-3)
    assert said[0.5] == pytest.approx(-1.0, abs=1e-2)


def test_ucb_doubts_upwards_and_thompson_as_likely_as_the_posterior_has_it() -> None:
    env = make()
    seen = np.tile(env.reset()[:1], (4000, 1))
    # Little is known of the arm that seems worst.
    arms = torch.arange(4).repeat_interleave(torch.tensor([10, 80, 110, 200]))
    paid = 0.1 * arms
    ucb, thompson = LinUCB(env, 0, exploration=2.0), LinearThompson(env, 0, exploration=2.0)
    for model in (ucb, thompson):
        model.fit(seen[:400], arms, paid)
        model._squares = model._seen = 1.0
    expected, widths = ucb.policy(seen[:1])[0], ucb.policy.widths(seen[:1])[0]
    optimistic = int((expected + 2.0 * widths).argmax())
    assert optimistic != int(expected.argmax())
    assert (ucb.explore(seen) == optimistic).all()
    assert (ucb.best(seen) == int(expected.argmax())).all()
    draws = np.random.default_rng(0).normal(expected.numpy(), 2.0 * widths.numpy(), (200_000, 4))
    shares = np.bincount(draws.argmax(1), minlength=4) / len(draws)
    pulled = np.bincount(thompson.explore(seen), minlength=4) / len(seen)
    np.testing.assert_allclose(pulled, shares, atol=0.04)
    assert (shares > 0.02).sum() > 1, "there is something to tell apart"


def test_arms_nobody_knows_are_pulled_alike() -> None:
    env = make()
    counts = np.bincount(LinUCB(env, 0).explore(np.tile(env.reset()[:1], (4000, 1))), minlength=4)
    assert counts.min() > 850


@pytest.mark.parametrize("agent", [LinUCB, NeuralEpsilonGreedy])
def test_control_rows_count_as_what_taught_them(
    agent: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    """`improvement` teaches some rows by hard labels only, whatever was chosen."""
    env = make(reward="improvement", control_fraction=0.25)
    model = agent(env, 0)
    monkeypatch.setattr(model, "explore", lambda seen: np.full(len(seen), 3))
    fitted: list[Any] = []
    monkeypatch.setattr(model, "fit", lambda seen, arms, paid: fitted.append((arms, paid)))
    model.learn(64 * 3)
    arms, paid = (torch.cat(parts) for parts in zip(*fitted, strict=True))
    assert arms.bincount().tolist() == [3 * 16, 0, 0, 3 * 48]
    assert not paid[arms == 0].any()


def test_epsilon_falls_once() -> None:
    model = NeuralEpsilonGreedy(make(), 0, exploration_fraction=0.5, final_epsilon=0.1)
    assert model.epsilon == 1.0
    model.experience = 0.25
    assert model.epsilon == pytest.approx(0.55)
    model.learn(64 * 4)
    assert model.epsilon == pytest.approx(0.1)
    seen: list[float] = []
    explore = model.explore

    def spy(observation: Any) -> Any:
        seen.append(model.epsilon)
        return explore(observation)

    model.explore = spy  # type: ignore[method-assign]
    model.learn(64 * 2)
    assert seen == pytest.approx([0.1, 0.1]), "who has rehearsed does not guess again"


def test_a_memory_smaller_than_a_batch_keeps_its_last_queries() -> None:
    env = make()
    model = NeuralEpsilonGreedy(env, 0, buffer_size=50)
    seen = env.reset()
    model.fit(seen, torch.zeros(64, dtype=torch.int64), torch.arange(64.0))
    assert set(model._rewards.tolist()) == set(range(14, 64))


def test_networks_begin_equal_and_from_their_own_generator() -> None:
    torch.rand(1)
    state = torch.get_rng_state()
    first, second = (make_network([5, 7, 3], torch.Generator().manual_seed(1)) for _ in range(2))
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(first[0].weight, second[0].weight)
    assert first[0].weight.any()
    assert not first(torch.ones(1, 5)).any()


def test_mtkd_rl_weighs_as_published() -> None:
    env = make(action_mode="weights", hide=(), teachers=["structure", "image", "text"])
    model = MTKDRL(env, 0, policy_kwargs={"net_arch": [8]})
    seen = env.reset()
    names = env.get_attr("feature_names")[0]
    scale = math.log(env.get_attr("graph")[0].num_entities)
    teachers = ("structure", "image", "text")
    cross_entropy, divergence = (
        np.stack([sign * scale * seen[:, names.index(f"{t}_{name}")] for t in teachers], axis=1)
        for sign, name in ((-1, "log_p_answer"), (1, "kl_to_student"))
    )

    def softmax(values: Any) -> Any:
        powers = np.exp(values - values.max(1, keepdims=True))
        return powers / powers.sum(1, keepdims=True)

    # At first the network says the same of all.
    wanted = (1 / 3 + (1 - softmax(cross_entropy)) / 2 + softmax(divergence)) / 3
    weights = model.weights(seen).detach().numpy()
    np.testing.assert_allclose(weights, wanted, rtol=1e-4)
    np.testing.assert_allclose(weights.sum(1), 1, rtol=1e-5)
    np.testing.assert_allclose(
        (model.best(seen) + 1) / 2, weights / weights.max(1, keepdims=True), atol=1e-5
    )
    before = model.weights(seen).log().sum(1).mean()
    for _ in range(5):
        model.learn_from(seen, np.zeros((64, 3), np.float32), np.ones(64, np.float32))
    assert model.weights(seen).log().sum(1).mean() > before, "all are pushed to one"
    assert competence(torch.zeros(2, 1)).tolist() == [[1.0], [1.0]]


def test_rl_kd_follows_the_policy_gradient_without_control_rows() -> None:
    env = make(action_mode="mask", reward="improvement", control_fraction=0.25)
    model = RLKD(env, 0, learning_rate=1e-3, ent_coef=0.3)
    seen = env.reset()
    actions = model.explore(seen)
    env.step(actions)
    control = env.last_info["control"]
    assert control.sum() == 16
    paid = np.random.default_rng(0).normal(size=64).astype(np.float32)
    gradients: list[Any] = []
    model._optimiser.step = lambda: gradients.append(  # type: ignore[method-assign,assignment]
        model.policy[0].weight.grad.clone()
    )
    model.learn_from(seen, env.last_info["executed_mask"], paid)
    kept = ~control
    advantages = (paid[kept] - paid[kept].mean()) / paid[kept].std()
    # All chances are one half at first: ∂ log π / ∂ logit = a − ½, and entropy is at its highest.
    wanted = -((actions[kept] - 0.5) * advantages[:, None]).T @ seen[kept] / kept.sum()
    np.testing.assert_allclose(gradients[0], wanted, atol=1e-5)


def test_a_policy_that_diverges_is_one_sentence(small_trial: dict[str, Any]) -> None:
    changes = {"algorithm": {"learning_rate": 1e30}}
    trial = TrialConfig("neural_epsilon_greedy", **small_trial, changes=changes)
    with pytest.raises(DivergedError, match="neural_epsilon_greedy's policy are not finite"):
        train_student(trial)


@pytest.mark.parametrize("agent", ["linucb", "neural_epsilon_greedy", "mtkd_rl", "rl_kd"])
def test_curves_are_drawn_and_defined(
    agent: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    config = TrialConfig(agent, **(small_trial | {"epochs": 4}))
    result = run_trial(config, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert_documented(events)
    curve = {"linucb": "train/reward_error", "rl_kd": "train/policy_loss"}.get(agent, "train/loss")
    assert len(events.Scalars(curve)) > 1
    weights = safetensors.torch.load_file(tmp_path / "policy.safetensors")
    assert all(bool(tensor.isfinite().all()) for tensor in weights.values())
    kind = "weight" if agent == "mtkd_rl" else "mask"
    assert result["calibration"]["preference"] == kind


@pytest.mark.parametrize(
    ("agent", "kwargs", "says"),
    [
        (LinUCB, {"exploration": -1}, "exploration must be a number ≥ 0, got -1"),
        (LinUCB, {"ridge": 0}, "ridge must be a positive number"),
        (LinearThompson, {"memory": 1.5}, "memory must be a number in"),
        (LinUCB, {"policy_kwargs": {"net_arch": [8]}}, "has no network: no net_arch"),
        (NeuralEpsilonGreedy, {"batch_size": 0}, "batch_size must be a whole number"),
        (NeuralEpsilonGreedy, {"final_epsilon": 2}, "final_epsilon must be a number in"),
        (NeuralEpsilonGreedy, {"policy_kwargs": {"net_arch": [0]}}, "net_arch must be a list"),
        (NeuralEpsilonGreedy, {"policy_kwargs": {"depth": 1}}, "only net_arch can be given"),
        (RLKD, {"ent_coef": -1}, "ent_coef must be a number ≥ 0"),
        (RLKD, {}, "rl_kd: action_mode must be 'mask'"),
        (MTKDRL, {}, "mtkd_rl: action_mode must be 'weights'"),
    ],
)
def test_bad_arguments_are_one_sentence(agent: Any, kwargs: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        agent(make(), 0, **kwargs)


def test_spaces_and_columns_that_do_not_fit_are_one_sentence() -> None:
    with pytest.raises(ValueError, match="action_mode must be 'discrete'"):
        LinUCB(make(action_mode="mask"), 0)
    with pytest.raises(ValueError, match="hide must leave 'teachers' and 'answer'"):
        MTKDRL(make(action_mode="weights"), 0)
    with pytest.raises(ValueError, match="LinUCB needs an SB3VecEnv, got dict"):
        LinUCB({}, 0)
