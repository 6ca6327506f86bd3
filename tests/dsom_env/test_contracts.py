"""Gymnasium's and Stable-Baselines3's contracts, with every warning an error."""

import warnings
from contextlib import nullcontext
from dataclasses import replace
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from gymnasium.error import ResetNeeded
from gymnasium.utils.env_checker import check_env
from gymnasium.vector import AutoresetMode
from hypothesis import given, settings
from hypothesis import strategies as st
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import dsom_env as _registration  # noqa: F401
from dsom_env.columns import GROUPS
from dsom_env.config import ACTION_MODES, BUILT_IN_REWARDS, DSoMConfig
from students.forward import Forward
from teachers.pretraining import PretrainingConfig
from tests.dsom_env.elsewhere import shape_made_elsewhere

SMALL: dict[str, Any] = {
    "dataset": "planted:entities=160,relations=4,blocks=2,tails_per_head=3",
    "teacher_rank": 8,
    "rank": 8,
    "horizon": 5,
}


def make(**kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make("DSoM-v0", **(SMALL | kwargs))


def make_vec(num_envs: int = 4, **kwargs: Any) -> Any:
    return gym.make_vec("DSoM-v0", num_envs=num_envs, **(SMALL | kwargs))


@pytest.mark.parametrize("action_mode", ACTION_MODES)
@pytest.mark.parametrize("reward", [*BUILT_IN_REWARDS, None])
def test_both_checkers(action_mode: str, reward: str | None) -> None:
    arguments: dict[str, Any] = {"action_mode": action_mode}
    arguments |= {"reward": reward} if reward else {"cotrain": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(**arguments, render_mode="ansi").unwrapped)
        check_sb3_env(make(**arguments))


def test_make_from_another_folder(tmp_path: Path) -> None:
    assert shape_made_elsewhere("DSoM-v0", tmp_path) == str(make().observation_space.shape)


def test_spec_makes_the_same_environment() -> None:
    env = make(horizon=7)
    again = gym.make(env.spec)
    assert str(again) == str(env)
    assert again.unwrapped.config == env.unwrapped.config  # type: ignore[attr-defined]


def run(env: Any, actions: np.ndarray, seed: int) -> list[Any]:
    observation, info = env.reset(seed=seed)
    trace = [observation, *info.values()]
    for action in actions:
        observation, reward, terminated, truncated, info = env.step(action)
        trace += [observation, reward, terminated, truncated]
        trace += [v for k, v in info.items() if "final" not in k]
    return trace


def assert_same(first: list[Any], second: list[Any]) -> None:
    assert len(first) == len(second)
    for a, b in zip(first, second, strict=True):
        np.testing.assert_array_equal(a, b)


def student_of(env: Any) -> dict[str, np.ndarray]:
    state = env.unwrapped.classroom.trainer.scorer.state_dict()
    return {name: value.numpy().copy() for name, value in state.items()}


@pytest.mark.parametrize("reward", BUILT_IN_REWARDS)
def test_one_seed_one_run(reward: str) -> None:
    actions = np.random.default_rng(0).integers(0, 2, (12, 16, 4))
    traces, students = [], []
    for seed in (3, 3, 4):
        env = make_vec(16, reward=reward)
        traces.append(run(env, actions, seed))
        students.append(student_of(env))
    assert_same(traces[0], traces[1])
    for name, value in students[0].items():
        np.testing.assert_array_equal(value, students[1][name])
    assert any((value != students[2][name]).any() for name, value in students[0].items())


def test_reset_with_seed_starts_anew_and_without_keeps_the_student() -> None:
    env = make_vec()
    actions = np.ones((6, 4, 4), dtype=np.int8)
    first = run(env, actions, 0)
    taught = student_of(env)
    env.reset()
    assert all((student_of(env)[name] == value).all() for name, value in taught.items())
    env.reset(options={"reinit_student": True})
    assert any((student_of(env)[name] != value).any() for name, value in taught.items())
    assert_same(first, run(env, actions, 0))


def test_global_randomness_is_untouched() -> None:
    import random

    import torch

    before = (torch.get_rng_state(), np.random.get_state()[1].copy(), random.getstate())  # noqa: NPY002
    env = make_vec(reward="heldout")
    run(env, np.ones((6, 4, 4), dtype=np.int8), 0)
    assert torch.equal(before[0], torch.get_rng_state())
    assert (before[1] == np.random.get_state()[1]).all()  # noqa: NPY002
    assert before[2] == random.getstate()


@pytest.mark.parametrize("mode", ACTION_MODES)
@pytest.mark.parametrize("reward", ["improvement", "heldout"])
def test_scalar_and_vector_agree(reward: str, mode: str) -> None:
    scalar, vector = (
        made(reward=reward, action_mode=mode) for made in (make, lambda **k: make_vec(1, **k))
    )
    scalar.action_space.seed(1)
    actions = [np.asarray(scalar.action_space.sample()) for _ in range(5)]
    one, _ = scalar.reset(seed=9)
    many, _ = vector.reset(seed=9)
    np.testing.assert_array_equal(one, many[0])
    for action in actions:
        one, reward_one, ended, _, info_one = scalar.step(action)
        many, reward_many, ended_many, _, info_many = vector.step(action[None])
        np.testing.assert_array_equal(one, many[0])
        assert reward_one == reward_many[0]
        assert ended == ended_many[0]
        for name, value in info_one.items():
            np.testing.assert_array_equal(value, info_many[name][0], name)
    assert ended


def test_autoreset_modes_teach_the_same_queries() -> None:
    taught, weights = {}, {}
    for mode in ("same_step", "next_step", "disabled"):
        env = make_vec(3, horizon=4, autoreset_mode=mode)
        env.reset(seed=0)
        rows = []
        actions = iter(np.random.default_rng(0).integers(0, 2, (12, 3, 4)))
        while len(rows) < 10:
            _, _, ended, truncated, info = env.step(next(actions))
            rows.append(np.stack([info["entity"], info["relation"], info["answer"]]))
            assert not truncated.any()
            assert ended.all() == (len(rows) % 4 == 0)
            if ended.any() and mode == "next_step":
                ignored = env.step(np.ones((3, 4), dtype=np.int8))
                assert (ignored[1] == 0).all()
                assert not ignored[2].any()
                assert not ignored[4]["_entity"].any()
            elif ended.any() and mode == "disabled":
                with pytest.raises(ResetNeeded):
                    env.step(np.ones((3, 4), dtype=np.int8))
                env.reset(options={"reset_mask": ended})
            elif ended.any():
                assert info["_final_obs"].all()
                assert info["final_obs"][0].shape == env.single_observation_space.shape
        taught[mode], weights[mode] = np.stack(rows), student_of(env)
        assert env.metadata["autoreset_mode"] is AutoresetMode[mode.upper()]
    for mode in ("next_step", "disabled"):
        np.testing.assert_array_equal(taught["same_step"], taught[mode])
        for name, value in weights["same_step"].items():
            np.testing.assert_array_equal(value, weights[mode][name])


def test_partial_reset_and_truncation() -> None:
    env = make_vec(3, autoreset_mode="disabled", max_episode_steps=2)
    env.reset(seed=0)
    step = np.zeros((3, 4), dtype=np.int8)
    env.step(step)
    _, _, terminated, truncated, _ = env.step(step)
    assert truncated.all()
    assert not terminated.any()
    env.reset(options={"reset_mask": np.array([True, False, True])})
    with pytest.raises(ResetNeeded):
        env.step(step)
    env.reset(options={"reset_mask": np.array([False, True, False])})
    env.step(step)


@pytest.mark.parametrize("mode", [torch.no_grad, torch.inference_mode])
@pytest.mark.parametrize("reward", BUILT_IN_REWARDS)
def test_the_student_learns_whatever_mode_the_caller_acts_in(reward: str, mode: Any) -> None:
    students = []
    for context in (mode, nullcontext):
        env = make_vec(reward=reward)
        with context():
            env.reset(seed=0)
            for _ in range(2):
                env.step(np.ones((4, 4), dtype=np.int8))
        students.append(student_of(env))
    for name, value in students[0].items():
        np.testing.assert_array_equal(value, students[1][name])


def test_teachers_are_trained_whatever_mode_the_caller_acts_in() -> None:
    with torch.no_grad():
        observation, _ = make_vec(teachers=["text"], teacher_rank=3).reset(seed=0)
    assert np.isfinite(observation).all()


def test_a_refused_reset_changes_nothing() -> None:
    env = make_vec(3)
    env.reset(seed=0)
    env.step(np.ones((3, 4), dtype=np.int8))
    before = student_of(env)
    with pytest.raises(ValueError, match="reset_mask"):
        env.reset(seed=1, options={"reset_mask": np.ones(2, dtype=np.bool_)})
    for name, value in student_of(env).items():
        np.testing.assert_array_equal(value, before[name])


def test_a_modality_named_like_a_teacher_is_no_second_teacher(small_graph: Any) -> None:
    renamed = {
        "structure": small_graph.modalities["text"],
        "image": small_graph.modalities["image"],
    }
    graph = replace(small_graph, modalities=renamed)
    assert make_vec(dataset=graph).teachers == ("structure", "image", "fused")


@pytest.mark.parametrize("reward", BUILT_IN_REWARDS)
@given(data=st.data())
@settings(max_examples=8, deadline=None)
def test_any_masks_keep_observations_inside(reward: str, data: st.DataObject) -> None:
    env = make_vec(4, reward=reward)
    env.reset(seed=data.draw(st.integers(0, 99)))
    mask = st.lists(st.integers(0, 15), min_size=4, max_size=4)
    for codes in data.draw(st.lists(mask, min_size=1, max_size=12)):
        actions = (np.array(codes)[:, None] >> np.arange(4)) & 1
        observation, rewards, _, _, info = env.step(actions)
        assert np.isfinite(observation).all()
        assert env.observation_space.contains(observation)
        assert np.isfinite(rewards).all()
        assert np.isfinite(info["student_cross_entropy"]).all()


def test_observations_are_the_callers_own() -> None:
    env = make_vec()
    observation, info = env.reset(seed=0)
    kept = observation.copy()
    observation[:] = 7
    info["entity"][:] = -1
    after, *_ = env.step(np.ones((4, 4), dtype=np.int8))
    fresh = make_vec()
    again, _ = fresh.reset(seed=0)
    np.testing.assert_array_equal(again, kept)
    expected, *_ = fresh.step(np.ones((4, 4), dtype=np.int8))
    np.testing.assert_array_equal(after, expected)


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("dataset", "emojy", "dataset.*emoji"),
        ("teachers", ["structur"], "teachers.*structure"),
        ("reward", "improvment", "reward.*improvement"),
        ("action_mode", "masks", "action_mode.*mask"),
        ("student", "compelx", "student.*complex"),
        ("hide", ["answers"], "hide.*answer"),
        ("hide", "answer", "hide must be a list"),
        ("hide", list(GROUPS), "nothing is left"),
        ("allow_empty", 1, "allow_empty"),
        ("reward", "gate+", "reward"),
        ("horizon", 0, "horizon"),
        ("horizon", True, "horizon"),
        ("horizon", 2.5, "horizon"),
        ("horizont", 3, "horizont.*horizon"),
        ("teachers", [], "teachers"),
        ("teachers", ["text", "text"], "teachers"),
        ("control_fraction", 1.0, "control_fraction"),
        ("autoreset_mode", "never", "autoreset_mode"),
        ("render_mode", "human", "render_mode"),
        ("device", "gpu0", "device"),
        ("gamma", -1.0, "gamma"),
        ("alpha", "much", "alpha"),
        ("dataset", 3, "dataset"),
        ("teachers", 3, "teachers"),
        ("neighbors", "one-hop", "neighbors.*one_hop"),
        ("partition", "2way", "partition.*two_way"),
        ("gamma", "much", "gamma"),
        ("gamma", float("nan"), "gamma"),
        ("learning_rate", "1e-3", "learning_rate"),
        ("regularisation", None, "regularisation"),
        ("beta_warmup", "long", "beta_warmup"),
        ("control_fraction", "some", "control_fraction"),
        ("cotrain", "no", "cotrain"),
        ("teacher_rank", 0, "teacher_rank"),
        ("teacher_batch", 0.5, "teacher_batch"),
        ("teacher_epochs", 0, "teacher_epochs"),
        ("teacher_learning_rate", 0, "teacher_learning_rate"),
        ("teacher_regularisation", -0.1, "teacher_regularisation"),
        ("teacher_ranks", 8, "teacher_ranks.*teacher_rank"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*render_mode.*:UserWarning")  # Gymnasium's own, before ours
def test_bad_arguments_are_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make(**{name: value}).reset()
    with pytest.raises(ValueError, match=says):
        make_vec(**{name: value}).reset()


def test_info_is_about_the_queries_that_were_taught() -> None:
    """As the docstring of the environment says, episodes that end with the step included."""
    env = make_vec(3, horizon=1)
    _, waiting = env.reset(seed=0)
    *_, terminated, _, info = env.step(np.ones((3, 4), dtype=np.int8))
    assert terminated.all()
    for name in ("entity", "relation", "answer"):
        np.testing.assert_array_equal(info[name], waiting[name])
        np.testing.assert_array_equal(info["final_info"][name], waiting[name])
    assert not np.array_equal(env.unwrapped.lessons.lesson.queries.entities, waiting["entity"])


def test_teachers_settings_are_those_of_their_pretraining() -> None:
    assert DSoMConfig().pretraining == PretrainingConfig(), "or the shipped teachers are not found"
    settings = DSoMConfig(
        teacher_rank=7,
        # Whole numbers must be the same key of the cache as 1.0 and 0.0.
        teacher_learning_rate=1,
        teacher_regularisation=0,
        teacher_batch=9,
        teacher_epochs=3,
    ).pretraining
    expected = PretrainingConfig(
        rank=7, learning_rate=1.0, regularisation=0.0, batch_size=9, max_epochs=3
    )
    assert repr(settings) == repr(expected)


def test_what_only_the_world_can_tell_is_refused_at_the_first_reset() -> None:
    with pytest.raises(ValueError, match="reward_fraction"):
        make(reward="heldout", reward_fraction=1e-6).reset()
    with pytest.raises(ValueError, match="device"):
        make(device=f"cuda:{torch.cuda.device_count()}").reset()


@pytest.mark.parametrize("count", [0, -1, 1.5, True])
def test_bad_num_envs(count: object) -> None:
    with pytest.raises(ValueError, match="num_envs"):
        make_vec(num_envs=count)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("mode", "action"),
    [
        ("mask", [[2, 0, 0, 0]]),
        ("mask", [[0.5, 0, 0, 0]]),
        ("mask", [[1, 0]]),
        ("discrete", [16]),
        ("weights", [[0.0, 0.0, 1.5, 0.0]]),
        ("weights", [[0.0, 0.0, float("nan"), 0.0]]),
        ("weights", [[True, "1", 0, 0]]),
        ("tempered", [[0.0, 0.0, 0.0, 0.0]]),
        ("tempered", [[0.0, 0.0, -1.5, 0.0, 0.0]]),
        ("tempered", [[0.0, 0.0, 0.0, 0.0, 1.5]]),
        ("tempered", [[0.0, 0.0, 0.0, 0.0, float("nan")]]),
    ],
)
def test_bad_actions(mode: str, action: Any) -> None:
    env = make_vec(1, action_mode=mode)
    env.reset(seed=0)
    with pytest.raises(ValueError, match=f"actions must .* in mode '{mode}', got"):
        env.step(np.array(action))


def test_the_page_has_every_action_mode_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "actions.md").read_text("utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(ACTION_MODES)


def test_action_modes_mean_the_same() -> None:
    rewards = []
    for mode, actions in (
        ("mask", [[1, 0, 1, 0]]),
        ("multidiscrete", [[1, 0, 1, 0]]),
        ("discrete", [5]),
        ("weights", [[1.0, -1.0, 1.0, -1.0]]),
        ("tempered", [[1.0, -1.0, 1.0, -1.0, 0.5]]),
    ):
        env = make_vec(1, action_mode=mode)
        env.reset(seed=0)
        info = env.step(np.array(actions))[4]
        rewards.append(info["executed_mask"].tolist())
        tempering = {"tempered": [2.0]}.get(mode)
        np.testing.assert_array_equal(info.get("executed_tempering"), tempering)
    assert rewards == [[[1, 0, 1, 0]]] * 5


@pytest.mark.parametrize("combination", ["log_probs", "per_teacher"])
@pytest.mark.parametrize("reward", [*BUILT_IN_REWARDS, None])
def test_an_exponent_of_zero_tempers_nothing(reward: str | None, combination: str) -> None:
    """Mode `tempered` is then mode `weights`, to the bit: what is seen, paid and learned.

    And one exponent for everybody is the setting `tempering`.
    """
    weights = np.random.default_rng(0).uniform(-1, 1, (8, 16, 4)).astype(np.float32)
    exponents = np.zeros((8, 16, 1), dtype=np.float32)
    found = {}
    for mode, actions in (
        ("weights", weights),
        ("tempered", np.concatenate([weights, exponents], axis=2)),
        ("sharper", np.concatenate([weights, exponents - 0.5], axis=2)),
        ("configured", weights),
    ):
        of_weights = mode in ("weights", "configured")
        kind: dict[str, Any] = {"action_mode": "weights" if of_weights else "tempered"}
        kind |= {"tempering": 0.5} if mode == "configured" else {}
        kind |= {"reward": reward} if reward else {"cotrain": False}
        env = make_vec(16, combination=combination, beta=0.5, **kind)
        observation, _ = env.reset(seed=3)
        trace = [observation]
        for action in actions:
            observation, reward_of, *_, info = env.step(action)
            control = info["control"]
            trace += [observation, reward_of, info["executed_mask"], control]
            trace.append(info["student_cross_entropy"])
            if not of_weights:
                expected = np.where(control, 1.0, 1.0 if mode == "tempered" else 0.5)
                np.testing.assert_array_equal(info["executed_tempering"], expected)
        found[mode] = trace, student_of(env)
    assert_same(found["weights"][0], found["tempered"][0])
    for name, value in found["weights"][1].items():
        np.testing.assert_array_equal(value, found["tempered"][1][name])
    sharper = found["sharper"]
    assert_same(sharper[0], found["configured"][0])
    for name, value in sharper[1].items():
        np.testing.assert_array_equal(value, found["configured"][1][name])
    assert any((a != b).any() for a, b in zip(sharper[0], found["weights"][0], strict=True))


def test_rows_are_taught_by_the_soft_label_that_was_tempered_for_them(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Rows that do not act, and control rows, in between; the dense labels by softmax."""
    env = make_vec(16, action_mode="tempered", reward="gate+improvement", control_fraction=0.2)
    env.reset(seed=0)
    lessons, classroom = env.unwrapped.lessons, env.unwrapped.classroom
    taught: list[Any] = []
    original = classroom.teach

    def spy(lesson: Any, labels: Any) -> Any:
        taught.append((lesson, labels))
        return original(lesson, labels)

    monkeypatch.setattr(classroom, "teach", spy)
    rng = np.random.default_rng(0)
    weights = rng.uniform(0.1, 1, (16, 4)).astype(np.float32)
    tempering = rng.uniform(0.25, 4, 16).astype(np.float32)
    acting = np.arange(16) % 3 > 0
    outcome = lessons.step(weights, acting, np.zeros(16, dtype=np.bool_), tempering)
    ((lesson, (label,)),) = taught
    control = outcome.control[acting]
    assert control.any()
    np.testing.assert_array_equal(lesson.envs, np.flatnonzero(acting))
    (plain,) = lesson.opinions.soft_labels(torch.from_numpy(weights[acting]))
    exponents = torch.from_numpy(tempering[acting]).double()[:, None]
    expected = (plain.dense().double().log() / exponents).softmax(1)
    torch.testing.assert_close(
        label.dense().double()[~control], expected[~control], rtol=1e-4, atol=1e-7
    )
    assert not label.weight[control].any()
    untempered = ~acting | outcome.control
    np.testing.assert_array_equal(outcome.tempering, np.where(untempered, 1.0, tempering))


def test_weights_say_who_is_heard_and_how_strongly() -> None:
    """Equal weights of a half are the same labels at half of γ, down to the student's bits."""
    tables = []
    for gamma, action in ((3.0, [0.0, -1.0, 0.0, -1.0]), (1.5, [1.0, -1.0, 1.0, -1.0])):
        env = make_vec(8, action_mode="weights", reward="gate", gamma=gamma)
        env.reset(seed=0)
        _, _, _, _, info = env.step(np.tile(np.float32(action), (8, 1)))
        tables.append(next(env.unwrapped.classroom.trainer.scorer.parameters()).detach().clone())
    np.testing.assert_array_equal(info["executed_mask"], [[1, 0, 1, 0]] * 8)
    assert (tables[0] == tables[1]).all()


@pytest.mark.parametrize("mode", ACTION_MODES)
def test_nobody_is_everybody_where_nobody_is_not_allowed(mode: str) -> None:
    nobody = {"discrete": [0, 3], "weights": [[-1.0] * 4, [-1, 0, -1, -1]]}
    nobody["tempered"] = [[*row, 0.5] for row in nobody["weights"]]
    env = make_vec(2, action_mode=mode, allow_empty=False, reward="gate")
    env.reset(seed=0)
    masks = env.step(np.array(nobody.get(mode, [[0] * 4, [0, 1, 0, 0]])))[4]["executed_mask"]
    half = [0, 0.5, 0, 0]
    second = {"discrete": [1, 1, 0, 0], "weights": half, "tempered": half}.get(mode, [0, 1, 0, 0])
    np.testing.assert_array_equal(masks, [[1, 1, 1, 1], second])


def test_relations_have_codes_as_wide_as_asked_for() -> None:
    env = make_vec(relation_code=32)
    observation, _ = env.reset(seed=0)
    names = env.unwrapped.feature_names
    columns = [i for i, name in enumerate(names) if name.startswith("relation_code_")]
    assert len(columns) == 32
    relations = env.unwrapped.lessons.lesson.queries.relations
    codes = observation[:, columns]
    np.testing.assert_allclose(np.linalg.norm(codes, axis=1), 1.0, rtol=1e-5)
    alike = np.isclose(codes @ codes.T, 1.0, atol=1e-5)
    np.testing.assert_array_equal(alike, relations[:, None] == relations)


def test_hidden_columns_are_left_out_and_the_others_stay() -> None:
    whole = make_vec(hide=())
    everything, _ = whole.reset(seed=0)
    left = set(whole.unwrapped.feature_names)
    # Columns of `information` are there with co-trained teachers only: see test_information.py.
    for group in set(GROUPS) - {"information"}:
        env = make_vec(hide=[group])
        observation, _ = env.reset(seed=0)
        names = env.unwrapped.feature_names
        assert len(names) < len(whole.unwrapped.feature_names)
        columns = [whole.unwrapped.feature_names.index(name) for name in names]
        np.testing.assert_array_equal(observation, everything[:, columns])
        left -= set(whole.unwrapped.feature_names) - set(names)
    assert not left, "every column belongs to a group"
    hidden = set(whole.unwrapped.feature_names) - set(
        make_vec(hide=["answer"]).unwrapped.feature_names
    )
    ends = ("log_p_answer", "log_rank")
    assert hidden == {
        name
        for name in whole.unwrapped.feature_names
        if name.startswith("answer_") or name.endswith(ends)
    }


@pytest.mark.parametrize("hide", [["teachers", "student"], ["student"], ["teachers"]])
def test_what_is_hidden_is_not_computed(hide: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Without the student in sight, nobody asks for its logits but the update."""
    env = make_vec(hide=["answer", *hide], reward="filtered_log_gain", action_mode="mask")
    env.reset(seed=0)
    looked: list[Forward] = []
    logits = Forward.logits.fget
    assert logits is not None

    def seen(forward: Forward) -> torch.Tensor:
        looked.append(forward)
        return logits(forward)

    monkeypatch.setattr(Forward, "logits", property(seen))
    env.step(env.action_space.sample())
    assert bool(looked) == (len(hide) < 2)


def test_what_sees_the_answer_changes_with_it_and_nothing_else_does() -> None:
    """Two answers of one question: all that `answer` does not hide must be equal."""
    # Cross-fitted, two answers of one question may be strangers to different teachers.
    env = make_vec(2, hide=["answer"], judged_folds=None)
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    queries = classroom.queries
    keys = classroom.graph.query_keys(queries.entities, queries.relations)
    _, first, counts = np.unique(keys, return_index=True, return_counts=True)
    key = keys[first[counts.argmax()]]
    rows = np.flatnonzero(keys == key)[:2]
    assert len(rows) == 2
    seen = classroom.observe(classroom.lesson(rows))
    np.testing.assert_allclose(seen[0], seen[1], atol=1e-5)


def test_step_before_reset() -> None:
    with pytest.raises(ResetNeeded):
        make_vec().step(np.zeros((4, 4), dtype=np.int8))
