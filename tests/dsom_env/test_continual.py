"""DSoM-Continual-v0: the contracts of DSoM-v0, and a world that grows."""

import warnings
from pathlib import Path
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import safetensors.torch
import torch
from gymnasium.utils.env_checker import check_env
from stable_baselines3 import PPO
from stable_baselines3.common.env_checker import check_env as check_sb3_env

import dsom_env as _registration  # noqa: F401
from dsom_env.continual_config import METHODS, ContinualConfig
from dsom_env.course import training_rows
from dsom_env.sb3 import make_sb3_env
from graphs import load_graph
from graphs.tasks import cut_tasks
from students.growing import inherit
from students.registry import make_student
from students.training import Trainer
from tests.dsom_env.elsewhere import shape_made_elsewhere

ID = "DSoM-Continual-v0"
SMALL: dict[str, Any] = {
    "dataset": "planted:entities=160,relations=4,blocks=2,tails_per_head=3",
    "teacher_rank": 4,
    "teacher_epochs": 2,
    "rank": 4,
    "horizon": 5,
    "tasks": 3,
    "task_epochs": 0.5,
}


def make(**kwargs: Any) -> gym.Env[Any, Any]:
    return gym.make(ID, **(SMALL | kwargs))


def make_vec(num_envs: int = 16, **kwargs: Any) -> Any:
    return gym.make_vec(ID, num_envs=num_envs, **(SMALL | kwargs))


def student_of(env: Any) -> dict[str, np.ndarray]:
    state = env.unwrapped.classroom.trainer.scorer.state_dict()
    return {name: value.numpy().copy() for name, value in state.items()}


def walk(env: Any, seed: int = 0, steps: int = 40) -> list[Any]:
    """Everything that is seen and paid through all tasks."""
    observation, info = env.reset(seed=seed)
    trace = [observation, info]
    rng = np.random.default_rng(seed)
    for _ in range(steps):
        masks = rng.integers(0, 2, env.action_space.shape)
        trace.append(env.step(masks))
    return trace


def tasks_of(trace: list[Any]) -> list[int]:
    return [int(step[4]["task"][0]) for step in trace[2:]]


@pytest.mark.parametrize("mode", ["mask", "discrete", "tempered"])
@pytest.mark.parametrize("reward", ["improvement", "validation", None])
def test_both_checkers(mode: str, reward: str | None) -> None:
    """Tasks of a few steps, so that the checkers walk through all of them."""
    arguments: dict[str, Any] = {"action_mode": mode, "task_epochs": 0.02}
    arguments |= {"reward": reward} if reward else {"cotrain": False}
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        check_env(make(**arguments, render_mode="ansi").unwrapped)
        check_sb3_env(make(**arguments))


def test_make_from_another_folder_computes_nothing(tmp_path: Path) -> None:
    assert shape_made_elsewhere(ID, tmp_path, tasks=3) == str(make().observation_space.shape)


def test_spec_makes_the_same_environment() -> None:
    env = make(order=3)
    again = gym.make(env.spec)
    assert again.unwrapped.config == env.unwrapped.config  # type: ignore[attr-defined]


def flat(trace: list[Any]) -> list[Any]:
    values = [trace[0], *trace[1].values()]
    for observation, reward, terminated, truncated, info in trace[2:]:
        values += [observation, reward, terminated, truncated]
        values += [value for name, value in info.items() if "final" not in name]
    return values


@pytest.mark.parametrize("arrival", ["relation", "entity"])
def test_one_seed_one_life(arrival: str) -> None:
    """Through all tasks; and in an environment that has lived before."""
    env = make_vec(arrival=arrival)
    traces = [walk(env, 3), walk(env, 3), walk(make_vec(arrival=arrival), 3), walk(env, 4)]
    assert sorted(set(tasks_of(traces[0]))) == [0, 1, 2]
    for other in traces[1:3]:
        for one, same in zip(flat(traces[0]), flat(other), strict=True):
            np.testing.assert_array_equal(one, same)
    assert any((a != b).any() for a, b in zip(flat(traces[0]), flat(traces[3]), strict=False))


def test_scalar_and_vector_agree() -> None:
    scalar, vector = make(task_epochs=0.02), make_vec(1, task_epochs=0.02)
    one, info = scalar.reset(seed=9)
    many, _ = vector.reset(seed=9)
    np.testing.assert_array_equal(one, many[0])
    assert info["task"] == 0
    seen = set()
    for step in range(15):
        if step % 5 == 0 and step:
            one, _ = scalar.reset()
        action = np.array([step % 2, 1, 0, 1], dtype=np.int8)
        one, reward, _, _, info = scalar.step(action)
        many, rewards, _, _, infos = vector.step(action[None])
        np.testing.assert_array_equal(one, many[0])
        assert reward == rewards[0]
        for name, value in info.items():
            np.testing.assert_array_equal(value, infos[name][0], name)
        seen.add(info["task"])
    assert seen == {0, 1, 2}


def test_tasks_last_as_long_as_they_should_and_the_info_says_which() -> None:
    env = make_vec(task_epochs=1.5)
    trace = walk(env, steps=120)
    tasks = np.array(tasks_of(trace))
    waiting = np.array([int(step[4]["next_task"][0]) for step in trace[2:]])
    np.testing.assert_array_equal(waiting[:-1], tasks[1:])
    stream, config = env.unwrapped.tasks, env.unwrapped.config
    for task in (0, 1):
        queries = 2 * len(training_rows(config, stream, task))
        assert (tasks == task).sum() == int(np.ceil(1.5 * queries / 16))
    assert tasks[-1] == 2, "the last one does not end"
    taught = [
        (entity, relation, answer)
        for step, task in zip(trace[2:], tasks, strict=True)
        if task == 1
        for entity, relation, answer in zip(
            step[4]["entity"], step[4]["relation"], step[4]["answer"], strict=True
        )
    ]
    queries = env.unwrapped.classroom.taught_graphs[1].queries("train")
    asked = set(zip(queries.entities, queries.relations, queries.answers, strict=True))
    assert set(taught) == asked


@pytest.mark.parametrize("arrival", ["relation", "entity"])
def test_what_does_not_exist_is_no_candidate(arrival: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """In no row of logits, no list of the store, no id in the info, in any task."""
    env = make_vec(arrival=arrival)
    env.reset(seed=0)
    stream, seen = env.unwrapped.tasks, set()
    while len(seen) < 3:
        classroom = env.unwrapped.classroom
        entities, relations = stream.entities[classroom.task], stream.relations[classroom.task]
        lesson = env.unwrapped.lessons.lesson
        assert lesson.forward.logits.shape[1] == entities
        assert lesson.opinions.num_entities == entities
        assert int(classroom.store.entities.max()) < entities
        assert classroom.trainer.scorer.num_relations == relations
        info = env.step(np.ones((16, 4), dtype=np.int8))[4]
        assert max(info["entity"].max(), info["answer"].max()) < entities
        assert info["relation"].max() < 2 * relations
        seen.add(classroom.task)
    sizes = [(stream.entities[task], stream.relations[task]) for task in range(3)]
    assert sizes[0] != sizes[2]


def test_rows_of_old_entities_are_kept_when_a_task_ends() -> None:
    env = make_vec()
    env.reset(seed=0)
    while True:
        before = env.unwrapped.classroom
        info = env.step(np.ones((16, 4), dtype=np.int8))[4]
        if info["next_task"][0] > info["task"][0]:
            break
    after = env.unwrapped.classroom
    old, new = before.trainer.scorer.entity_table, after.trainer.scorer.entity_table
    assert torch.equal(new[: len(old)], old)
    assert after.trainer.steps == before.trainer.steps > 0
    relations = before.graph.num_relations
    table = after.trainer.scorer.relation_table
    assert torch.equal(table[:relations], before.trainer.scorer.relation_table[:relations])
    shifted = table[after.graph.num_relations :][:relations]
    assert torch.equal(shifted, before.trainer.scorer.relation_table[relations:])


def test_relations_keep_their_codes() -> None:
    env = make_vec(relation_code=12)
    columns = [i for i, n in enumerate(env.unwrapped.feature_names) if "relation_code" in n]
    observation, info = env.reset(seed=0)
    codes: dict[tuple[str, bool], np.ndarray] = {}
    seen = set()
    while len(seen) < 3 or len(codes) < 8:
        graph = env.unwrapped.classroom.graph
        relations = env.unwrapped.lessons.lesson.queries.relations
        for row, relation in zip(observation, relations.tolist(), strict=True):
            inverse = relation >= graph.num_relations
            name = (graph.relation_labels[relation % graph.num_relations], inverse)
            np.testing.assert_array_equal(codes.setdefault(name, row[columns]), row[columns])
        observation, *_, info = env.step(np.ones((16, 4), dtype=np.int8))
        seen.add(int(info["task"][0]))
    assert len({tuple(code.tolist()) for code in codes.values()}) == len(codes)


def test_a_new_student_begins_with_the_first_task_and_reset_alone_does_not() -> None:
    env = make_vec()
    first = walk(env, 5)
    taught = student_of(env)
    _, info = env.reset()
    assert info["task"][0] == 2
    assert all((student_of(env)[name] == value).all() for name, value in taught.items())
    _, info = env.reset(options={"reinit_student": True})
    assert info["task"][0] == 0
    for one, same in zip(flat(first), flat(walk(env, 5)), strict=True):
        np.testing.assert_array_equal(one, same)


def test_autoreset_modes_teach_the_same_queries() -> None:
    taught, weights = {}, {}
    for mode in ("same_step", "next_step", "disabled"):
        env = make_vec(autoreset_mode=mode)
        env.reset(seed=0)
        rows: list[Any] = []
        while len(rows) < 36:
            _, _, ended, _, info = env.step(np.ones((16, 4), dtype=np.int8))
            rows.append([info[name] for name in ("task", "entity", "relation", "answer")])
            if ended.all() and mode == "next_step":
                idle = env.step(np.ones((16, 4), dtype=np.int8))[4]
                assert not idle["_task"].any()
            elif ended.all() and mode == "disabled":
                env.reset(options={"reset_mask": ended})
        taught[mode], weights[mode] = np.array(rows), student_of(env)
    assert set(taught["same_step"][:, 0].reshape(-1).tolist()) == {0, 1, 2}
    for mode in ("next_step", "disabled"):
        np.testing.assert_array_equal(taught["same_step"], taught[mode])
        for name, value in weights["same_step"].items():
            np.testing.assert_array_equal(value, weights[mode][name])


def test_stable_baselines_goes_through_all_tasks() -> None:
    env = make_sb3_env(16, ID, **SMALL)
    tasks = []
    original = env.step_wait

    def spy() -> Any:
        result = original()
        tasks.append(int(env.last_info["task"][0]))
        return result

    env.step_wait = spy  # type: ignore[method-assign]
    model = PPO("MlpPolicy", env, n_steps=5, batch_size=40, n_epochs=1, seed=0, device="cpu")
    model.learn(16 * 40)
    assert sorted(set(tasks)) == [0, 1, 2]
    assert np.isfinite(student_of(env.venv)["entity_table"]).all()


@pytest.mark.parametrize("method", METHODS)
def test_what_is_learned_from(method: str) -> None:
    """By its definition, with a reward split that nobody ever rehearses."""
    env = make_vec(method=method, replay=2, reward_fraction=0.2, arrival="entity")
    env.reset(seed=0)
    while env.unwrapped.classroom.task < 2:
        env.step(np.ones((16, 4), dtype=np.int8))
    classroom, stream = env.unwrapped.classroom, env.unwrapped.tasks
    own = set(map(tuple, stream.own(2).triples["train"].tolist()))
    earlier = set(map(tuple, stream.seen(1).triples["train"].tolist()))
    taught = [set(map(tuple, g.triples["train"].tolist())) for g in classroom.taught_graphs]
    withheld = own - taught[2]
    assert len(withheld) == round(0.2 * len(own))
    extra = taught[2] - own
    if method == "finetuning":
        assert not extra
    elif method == "joint":
        assert extra == taught[1]
        assert len(earlier - extra) > 0
    else:
        counts = np.bincount([r for _, r, _ in extra], minlength=4)
        known = np.bincount([r for _, r, _ in earlier], minlength=4)
        np.testing.assert_array_equal(counts, np.minimum(known, 2))
        # Nothing is rehearsed that was withheld when its task came.
        was_taught = set.union(*taught[:2])
        assert extra <= was_taught
    rows = classroom.queries[classroom.withheld_rows]
    half = classroom.graph.num_relations
    asked = {
        (e, r, a) if r < half else (a, r - half, e)
        for e, r, a in zip(rows.entities, rows.relations, rows.answers, strict=True)
    }
    assert asked == withheld


def test_ranks_by_task_by_brute_force() -> None:
    """Candidates exist, other answers of all tasks so far are left out, tasks are told apart."""
    env = make_vec(arrival="entity")
    env.reset(seed=0)
    while env.unwrapped.classroom.task < 1:
        env.step(np.ones((16, 4), dtype=np.int8))
    classroom, stream = env.unwrapped.classroom, env.unwrapped.tasks
    exist = stream.entities[1]
    known = {
        (h, r, t)
        for split in ("train", "valid", "test")
        for row, (h, r, t) in enumerate(stream.graph.triples[split].tolist())
        if stream.task_of[split][row] <= 1
    }
    found = classroom.ranks_by_task("test")
    assert len(found) == 2
    for task in range(2):
        expected = []
        triples = stream.own(task).triples["test"].tolist()
        for inverse in (False, True):
            for h, r, t in triples:
                entity, answer = (t, h) if inverse else (h, t)
                relation = r + inverse * stream.relations[1]
                scores = classroom.trainer.score(torch.tensor([entity]), torch.tensor([relation]))[
                    0
                ]
                assert len(scores) == exist
                others = [
                    c
                    for c in range(exist)
                    if c != answer and ((c, r, t) if inverse else (h, r, c)) not in known
                ]
                above = sum(float(scores[c]) > float(scores[answer]) for c in others)
                ties = sum(float(scores[c]) == float(scores[answer]) for c in others)
                expected.append(1 + above + ties / 2)
        np.testing.assert_allclose(np.sort(found[task]), np.sort(expected))
    merged = classroom.evaluate_seen("test")["mrr"]
    assert merged == pytest.approx(float((1 / np.concatenate(found)).mean()))


def test_a_students_file_of_one_task_loads_in_the_next(tmp_path: Path) -> None:
    """Its sizes follow from the stream alone, which may be cut anew."""
    env = make_vec()
    env.reset(seed=0)
    state = env.unwrapped.classroom.trainer.scorer.state_dict()
    safetensors.torch.save_file(state, tmp_path / "student.safetensors")
    graph = load_graph(SMALL["dataset"])
    stream = cut_tasks(graph, 3)
    students = [
        make_student("complex", entities, relations, 4, torch.Generator())
        for entities, relations in zip(stream.entities[:2], stream.relations[:2], strict=True)
    ]
    students[0].load_state_dict(safetensors.torch.load_file(tmp_path / "student.safetensors"))
    inherit(Trainer(students[1], stream.own(1)), students[0])
    for entity, label in enumerate(stream.own(0).entity_labels):
        assert stream.own(1).entity_labels[entity] == label
        found = students[1].state_dict()["entity_table"][entity]
        assert torch.equal(found, state["entity_table"][entity])


def test_pictures_are_of_the_query_that_was_taught() -> None:
    env = make_vec(2, render_mode="ansi", task_epochs=0.02)
    env.reset(seed=0)
    tasks = set()
    for _ in range(12):
        graph = env.unwrapped.classroom.graph
        info = env.step(np.ones((2, 4), dtype=np.int8))[4]
        frames = env.render()
        for row, frame in enumerate(frames):
            head = graph.entity_labels[info["entity"][row]]
            relation = graph.relation_label(int(info["relation"][row]))
            assert frame.startswith(f"({head}, {relation}, ?)")
        tasks.add(int(info["task"][0]))
    assert tasks == {0, 1, 2}


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("method", "replays", "method.*replay"),
        ("arrival", "entities", "arrival.*entity"),
        ("tasks", 1, "tasks"),
        ("tasks", 9, "training triples of 4 relations"),
        ("tasks", 2.5, "tasks"),
        ("order", -1, "order"),
        ("replay", -1, "replay"),
        ("replay", True, "replay"),
        ("task_epochs", 0, "task_epochs"),
        ("attention_weight", float("nan"), "attention_weight"),
        ("teacher_seed", -1, "teacher_seed"),
        ("folds", 3, "folds must be 1"),
        ("judged_folds", 3, "judged_folds must be 1"),
        ("task", 3, "task.*did you mean 'tasks'"),
        ("reward", "improvment", "reward.*improvement"),
    ],
)
def test_bad_arguments_are_named(name: str, value: object, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        make_vec(**{name: value})


def test_default_teachers_have_attention() -> None:
    assert make_vec().teachers == ("structure", "image", "text", "attentive")
    assert ContinualConfig(teacher_seed=4).pretraining.seed == 4
    asymmetric = ContinualConfig(attention_weight=0.1).keeping
    assert asymmetric is not None
    assert (asymmetric.form, asymmetric.weight) == ("asymmetric", 0.1)
    assert ContinualConfig(method="replay").keeping is None
