"""The actor's bounds by hand and by descent; the noise by its standard deviation."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch

import dsom_env as _registration  # noqa: F401
from agents.td3 import Bounded, BoundedTD3
from dsom_env.sb3 import SB3VecEnv
from tests.agents.conftest import SMALL


def make(**kwargs: Any) -> BoundedTD3:
    env = gym.make_vec(
        "DSoM-v0", 256, dataset=SMALL, cotrain=False, rank=8, teacher_rank=8, action_mode="weights"
    )
    settings = {"seed": 0, "device": "cpu", "buffer_size": 1024, "learning_starts": 0, **kwargs}
    return BoundedTD3(SB3VecEnv(env), **settings)


def test_slopes_count_by_the_room_where_they_lead() -> None:
    values = torch.tensor([-1.0, -0.5, 0.0, 1.0, 1.5], requires_grad=True)
    bounded = Bounded()(values)
    assert bounded.tolist() == [-1.0, -0.5, 0.0, 1.0, 1.0]
    # Descent on it raises all values: to 1 there are 2, 1.5, 1, 0, and minus .5 of a range of 2.
    bounded.backward(torch.full((5,), -1.0))
    assert values.grad is not None
    assert values.grad.tolist() == [-1.0, -0.75, -0.5, 0.0, 0.25]
    values.grad = None
    Bounded()(values).backward(torch.full((5,), 1.0))
    assert values.grad.tolist() == [0.0, 0.25, 0.5, 1.0, 1.25]


@pytest.mark.parametrize(("wanted", "found"), [(0.2, 0.2), (-3.0, -1.0), (3.0, 1.0)])
def test_descent_stays_inside_and_comes_back_from_a_bound(wanted: float, found: float) -> None:
    """After a long time at the bound 1, where a tanh would have kept it."""
    values = torch.zeros(1, requires_grad=True)
    optimiser = torch.optim.Adam([values], 0.01)
    for target in (5.0, wanted):
        for _ in range(1500):
            optimiser.zero_grad()
            (Bounded()(values) - target).square().sum().backward()
            optimiser.step()
            assert abs(values.item()) < 1.05
    assert values.item() == pytest.approx(found, abs=0.02)


def test_actor_and_its_target_are_bounded_so() -> None:
    model = make(exploration=0.1)
    assert isinstance(model.actor.mu[-1], Bounded)
    assert isinstance(model.actor_target.mu[-1], Bounded)
    for mine, target in zip(model.actor.parameters(), model.actor_target.parameters(), strict=True):
        assert torch.equal(mine, target)


def test_every_sub_environment_has_noise_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    taken: list[np.ndarray] = []
    original = SB3VecEnv.step_async

    def spy(self: SB3VecEnv, actions: np.ndarray) -> None:
        taken.append(actions.copy())
        original(self, actions)

    monkeypatch.setattr(SB3VecEnv, "step_async", spy)
    model = make(exploration=0.3, gradient_steps=0)
    with torch.no_grad():
        for parameter in model.actor.parameters():
            parameter.zero_()
    model.learn(256 * 40)
    noise = np.stack(taken)
    assert noise.shape == (40, 256, 4)
    assert noise.std() == pytest.approx(0.3, rel=0.02)
    assert len(np.unique(noise)) > 0.99 * noise.size - (np.abs(noise) == 1).sum()


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        ({"exploration": -0.1}, "exploration must not be negative, got -0.1"),
        ({"exploration": 0.1, "action_noise": None}, "action_noise is fixed here"),
        ({"exploration": 0.1, "policy": "MlpPolicy"}, "policy is fixed here"),
    ],
)
def test_refused_arguments(arguments: dict[str, Any], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**arguments)
