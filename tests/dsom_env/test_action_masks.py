"""Action masks forbid teachers that have nothing to go by, whatever the form of an action."""

from typing import Any

import gymnasium as gym
import numpy as np
import pytest
from gymnasium.error import ResetNeeded
from sb3_contrib.common.maskable.utils import get_action_masks, is_masking_supported

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from dsom_env.actions import action_masks
from dsom_env.sb3 import SB3VecEnv
from graphs import load_graph

GRAPH = "planted:entities=160,relations=4,blocks=2,tails_per_head=3,missing=0.4"
TEACHERS = ["text", "structure", "image"]


def make(**kwargs: Any) -> Any:
    arguments = {"dataset": GRAPH, "rank": 8, "teacher_rank": 8, "judged_folds": None}
    return gym.make_vec("DSoM-v0", num_envs=64, **(arguments | {"teachers": TEACHERS} | kwargs))


def test_forms_of_an_action_agree() -> None:
    allowed = np.array([[True, False, True], [True, True, True], [False, False, True]])
    bits = action_masks("mask", allowed)
    assert bits.tolist() == action_masks("multidiscrete", allowed).tolist()
    np.testing.assert_array_equal(bits.reshape(3, 3, 2)[:, :, 0], True)
    np.testing.assert_array_equal(bits.reshape(3, 3, 2)[:, :, 1], allowed)
    subsets = action_masks("discrete", allowed)
    for row, code in np.ndindex(3, 8):
        chosen = (code >> np.arange(3)) & 1
        assert subsets[row, code] == all(allowed[row][chosen == 1])
    with pytest.raises(ValueError, match="action_mode: 'weights' has no actions to forbid"):
        action_masks("weights", allowed)


@pytest.mark.parametrize("mode", ["mask", "discrete"])
def test_every_sub_environment_gets_the_row_of_its_query(mode: str) -> None:
    bridge = SB3VecEnv(make(action_mode=mode))
    base: Any = bridge.venv.unwrapped
    with pytest.raises(ResetNeeded):
        base.action_masks()
    bridge.reset()
    assert is_masking_supported(bridge)
    graph = load_graph(GRAPH)
    for _ in range(3):
        entities = base.lessons.lesson.queries.entities
        allowed = np.ones((64, 3), dtype=bool)
        for column in (0, 2):
            name = TEACHERS[column]
            allowed[:, column] = np.isin(entities, graph.modalities[name].entities)
        assert not allowed.all(), "there is something to forbid"
        masks = get_action_masks(bridge)
        np.testing.assert_array_equal(masks, action_masks(mode, allowed))
        rows = bridge.env_method("action_masks", indices=[5, 7])
        np.testing.assert_array_equal(np.stack(rows), masks[[5, 7]])
        bridge.step(np.stack([bridge.action_space.sample() for _ in range(64)]))


def test_where_nobody_would_remain_everybody_does() -> None:
    env = make(teachers=["text", "image"])
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    graph, queries = classroom.graph, classroom.queries
    text, image = (
        np.isin(queries.entities, graph.modalities[name].entities) for name in ("text", "image")
    )
    allowed = classroom.allowed(queries)
    neither = ~(text | image)
    assert neither.any()
    assert allowed[neither].all()
    np.testing.assert_array_equal(allowed[~neither], np.stack([text, image], 1)[~neither])


def test_the_scalar_environment_has_its_own_row() -> None:
    env: Any = gym.make(
        "DSoM-v0", dataset=GRAPH, rank=8, teacher_rank=8, judged_folds=None, teachers=TEACHERS
    )
    env.reset(seed=0)
    assert is_masking_supported(env)
    masks = get_action_masks(env)
    np.testing.assert_array_equal(masks, env.unwrapped.vector.action_masks()[0])


@pytest.mark.parametrize("mode", ["mask", "multidiscrete", "discrete"])
def test_maskable_ppo_never_chooses_a_teacher_that_sees_nothing(mode: str) -> None:
    environment = {"rank": 8, "teacher_rank": 8, "action_mode": mode}
    shares = {}
    for agent in ("maskable_ppo", "random"):
        trial = TrialConfig(
            agent, dataset=GRAPH, teachers=tuple(TEACHERS), epochs=1, batch=64,
            environment=environment,
        )  # fmt: skip
        result = run_trial(trial)
        presence = result["selection"]["by_presence"]["entity"]
        shares[agent] = {
            name: presence[name]["lacks"]["shares"][name] for name in ("text", "image")
        }
    assert set(shares["maskable_ppo"].values()) == {0.0}
    assert min(shares["random"].values()) > 0.3
