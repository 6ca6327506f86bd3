"""Trials and comparisons: fair, repeatable, resumable."""

import itertools
import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.comparison import ComparisonConfig, compare, trial_folder
from agents.headroom import own_soft_label
from agents.hyperparameters import load_hyperparameters, parse_hyperparameters
from agents.registry import AGENTS, AgentSpec
from agents.report import render_report
from agents.trial import finished_trial, load_trained_student, run_trial
from agents.trial_config import TrialConfig, rehearsal_of, resolve
from dsom_env.rewards import REWARDS
from dsom_env.sb3 import SB3VecEnv
from graphs import load_graph, save_graph
from students.checkpoints import Checkpoints
from students.evaluation import evaluate_ranking
from students.registry import STUDENTS
from teachers.registry import TEACHERS
from tests.agents.conftest import SMALL, assert_alike_in_class
from tests.conftest import LoadSource


def without_time(result: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in result.items() if key != "seconds"}


@pytest.fixture
def killed_after_an_epoch(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Any]:
    """A trial that ends without a goodbye, after a checkpoint now and then."""
    opportunities = itertools.count()
    monkeypatch.setattr(Checkpoints, "due", lambda self: next(opportunities) % 7 == 0)

    def kill(epoch: int, mrr: float) -> None:
        raise KeyboardInterrupt

    def run(config: TrialConfig) -> dict[str, Any]:
        with pytest.raises(KeyboardInterrupt):
            run_trial(config, tmp_path, kill)
        assert list(tmp_path.glob("checkpoints/*"))
        return run_trial(config, tmp_path)

    return run


@pytest.mark.parametrize("agent", [*AGENTS, "single:text"])
def test_every_agent_is_repeatable_even_when_killed_and_spends_the_same_budget(
    agent: str, small_trial: dict[str, Any], killed_after_an_epoch: Callable[..., Any]
) -> None:
    config = TrialConfig(agent, seed=1, **small_trial)
    first = run_trial(config)
    torch.rand(3)  # what ran before must not matter
    assert without_time(first) == without_time(killed_after_an_epoch(config))
    graph = load_graph(SMALL)
    assert first["student_steps"] == round(2 * 2 * len(graph.triples["train"]) / 64)
    assert first["curves"]["epoch"] == [1, 2]
    assert first["valid"]["mrr"] == max(first["curves"]["valid_mrr"])
    assert first["curves"]["valid_mrr"][first["best_epoch"] - 1] == first["valid"]["mrr"]
    assert all(0 <= share <= 1 for share in first["mean_mask"].values())


def test_agents_of_a_seed_see_the_same_student_and_queries(
    small_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    agents = ("none", "smooth", "random", "oracle", "ppo", "reinforce", "dqn", "sac", "td3")
    assert_alike_in_class(
        [TrialConfig(name, seed=5, **small_trial) for name in agents], monkeypatch
    )


def test_none_is_plain_training(small_trial: dict[str, Any]) -> None:
    """`all` with γ = 0 and `none` are the same student."""
    none = run_trial(TrialConfig("none", **small_trial))
    weightless = dict(small_trial, environment=small_trial["environment"] | {"gamma": 0.0})
    everyone = run_trial(TrialConfig("all", **weightless))
    assert none["test"]["mrr"] == pytest.approx(everyone["test"]["mrr"], abs=1e-6)
    assert none["test"]["mrr"] != run_trial(TrialConfig("all", **small_trial))["test"]["mrr"]


def test_test_split_is_read_after_training_only(
    small_trial: dict[str, Any], tmp_path: Path
) -> None:
    graph = load_graph(SMALL)
    results = []
    for name, rows in (("whole", slice(None)), ("part", slice(0, 5))):
        triples = {**graph.triples, "test": graph.triples["test"][rows].copy()}
        save_graph(replace(graph, triples=triples), tmp_path / name)
        config = dict(small_trial, dataset=str(tmp_path / name))
        results.append(run_trial(TrialConfig("relation", **config)))
    assert results[0]["curves"] == results[1]["curves"]
    assert results[0]["valid"] == results[1]["valid"]
    assert results[0]["test"] != results[1]["test"]


def assert_documented(events: EventAccumulator) -> None:
    """Every curve is defined on the page."""
    documented = Path(__file__).parents[2].joinpath("docs/metrics.md").read_text("utf-8")
    for tag in events.Tags()["scalars"]:
        family = tag.split("/")[0]
        assert (
            f"`{tag}`" in documented
            or (family == "share" and "`share/" in documented)
            or (tag.startswith("agent/share/") and "`agent/share/<" in documented)
        ), tag


def test_files_of_a_trial(small_trial: dict[str, Any], tmp_path: Path) -> None:
    config = TrialConfig("reinforce", seed=2, **small_trial)
    result = run_trial(config, tmp_path)
    assert finished_trial(tmp_path, config) == json.loads(json.dumps(result))
    with pytest.raises(ValueError, match="another configuration"):
        finished_trial(tmp_path, replace(config, epochs=3))
    student, graph = load_trained_student(tmp_path)
    with torch.no_grad():
        assert evaluate_ranking(student, graph)["mrr"] == pytest.approx(result["test"]["mrr"])
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    curve = [event.value for event in events.Scalars("student/valid_mrr")]
    np.testing.assert_allclose(curve, result["curves"]["valid_mrr"], rtol=1e-6)
    curve = [event.value for event in events.Scalars("agent/mask/wrong_bits")]
    np.testing.assert_allclose(curve, result["selection"]["epochs"]["wrong_bits"], rtol=1e-6)
    assert_documented(events)
    (tmp_path / "student.safetensors").write_bytes(b"not weights")
    with pytest.raises(ValueError, match="student"):
        load_trained_student(tmp_path)
    document = json.loads((tmp_path / "result.json").read_text("utf-8"))
    document["config"]["nonsense"] = 1
    (tmp_path / "result.json").write_text(json.dumps(document))
    with pytest.raises(ValueError, match="nonsense"):
        load_trained_student(tmp_path)
    (tmp_path / "result.json").write_text("{}")
    with pytest.raises(ValueError, match="finished trial"):
        finished_trial(tmp_path, config)
    with pytest.raises(FileNotFoundError, match="no finished trial"):
        load_trained_student(tmp_path / "nowhere")


Comparison = tuple[Path, ComparisonConfig, dict[str, Any]]


@pytest.fixture(scope="module")
def comparison(tmp_path_factory: pytest.TempPathFactory) -> Comparison:
    out = tmp_path_factory.mktemp("comparison")
    environment = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("all", dataset=SMALL, epochs=2, batch=64, environment=environment)
    config = ComparisonConfig(("none", "all", "random", "ppo"), (100, 101), trial)
    return out, config, compare(config, out, jobs=2, quiet=True)


def test_comparison_writes_what_it_promises(
    comparison: Comparison,
) -> None:
    out, config, results = comparison
    written = json.loads((out / "results.json").read_text("utf-8"))
    assert written == json.loads(json.dumps(results))
    assert written["complete"]
    assert [(run["agent"], run["seed"]) for run in written["runs"]] == [
        (agent, seed) for agent in config.agents for seed in config.seeds
    ]
    for run in written["runs"]:
        for split in ("valid", "test"):
            assert {"mrr", "hits@1", "hits@3", "hits@10"} <= run[split].keys()
        assert set(run["mean_mask"]) == {"structure", "image", "text", "fused"}
        assert set(run["calibration"]["teachers"]) == set(run["mean_mask"])
        kind = "probability" if run["agent"] == "ppo" else "mask"
        assert run["calibration"]["preference"] == kind
        assert not run["oracle"]
    assert written["head_room"] is None
    values = [row["iqm"] for row in written["summary"]]
    assert values == sorted(values, reverse=True)
    alone = run_trial(config.trials()[0])
    assert without_time(alone) == without_time(written["runs"][0])


def test_same_command_resumes(comparison: Comparison, monkeypatch: pytest.MonkeyPatch) -> None:
    out, config, results = comparison
    lost = trial_folder(out, config.trials()[2]) / "result.json"
    lost.unlink()
    kept = trial_folder(out, config.trials()[1]) / "result.json"
    touched = kept.stat().st_mtime_ns
    again = compare(config, out, jobs=1, quiet=True)
    assert kept.stat().st_mtime_ns == touched
    assert [without_time(run) for run in again["runs"]] == [
        without_time(run) for run in results["runs"]
    ]
    events = list((lost.parent / "tensorboard").glob("events.*"))
    assert len(events) == 1, "an interrupted trial's curves are not drawn twice"
    other = replace(config, trial=replace(config.trial, epochs=3))
    with pytest.raises(ValueError, match="another configuration"):
        compare(other, out, quiet=True)


def test_report_needs_nothing_and_escapes_everything(
    comparison: Comparison,
) -> None:
    results = json.loads(json.dumps(comparison[2]))
    page = render_report(results)
    assert "src=" not in page
    assert "href=" not in page
    assert results["verdict"].split(":")[0] in page
    for row in results["summary"]:
        assert f"{row['iqm']:.4f}" in page
    results["graph"]["name"] = "<script>alert(1)</script>"
    results["provenance"]["command"] = "<img>"
    results["complete"], results["runs"], results["summary"] = False, [], []
    results["failures"] = [{"agent": "<b>", "seed": 0, "error": "<i>"}]
    partial = render_report(results)
    assert "alert(1)</script>" not in partial
    for tag in ("<img>", "<b>", "<i>"):
        assert tag not in partial
    assert "Partial results" in partial


def test_failures_are_reported_and_the_rest_goes_on(tmp_path: Path) -> None:
    environment = {"rank": 8, "teacher_rank": 8, "learning_rate": 1e30}
    trial = TrialConfig("all", dataset=SMALL, epochs=1, batch=64, environment=environment)
    results = compare(ComparisonConfig(("none", "all"), (0,), trial), tmp_path, 1, quiet=True)
    assert not results["complete"]
    assert {failure["agent"] for failure in results["failures"]} == {"none", "all"}
    for failure in results["failures"]:
        assert "DivergedError" in failure["error"]
        assert "at step 1" in failure["error"]
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == results


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"agent": "pppo"}, "agents.*ppo"),
        ({"dataset": "emojis"}, "dataset"),
        ({"environment": {"gama": 1}}, "gama.*gamma"),
        ({"reward": "gates"}, "reward.*gate"),
    ],
)
def test_bad_input_is_refused_before_any_work(
    changes: dict[str, Any], says: str, tmp_path: Path
) -> None:
    config = ComparisonConfig(
        (changes.get("agent", "all"),), (0,), replace(TrialConfig("all"), **changes)
    )
    out = tmp_path / "out"
    with pytest.raises(ValueError, match=says):
        compare(config, out, quiet=True)
    assert not out.exists()


def test_trial_config_refuses() -> None:
    for field, value in (("epochs", 0), ("batch", 0), ("seed", -1)):
        with pytest.raises(ValueError, match=field):
            TrialConfig("all", **{field: value})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="seeds"):
        ComparisonConfig(("all",), (1, 1))


@pytest.mark.parametrize("agent", ["ppo", "reinforce", "dqn", "sac", "td3"])
def test_settings_win_over_an_agents_yaml(
    agent: str, small_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: list[Any] = []

    class Spy(SB3VecEnv):
        def __init__(self, env: Any) -> None:
            seen.append(env.unwrapped.config)
            super().__init__(env)

    monkeypatch.setattr("agents.trial.SB3VecEnv", Spy)
    own = {"dqn": "discrete", "sac": "tempered", "td3": "tempered"}
    mode = own.get(agent, "multidiscrete")
    asked = {"horizon": 2, "action_mode": mode}
    environment = small_trial["environment"] | asked
    result = run_trial(TrialConfig(agent, **(small_trial | {"environment": environment})))
    assert (seen[0].horizon, seen[0].action_mode) == (2, mode)
    used = result["hyperparameters"]["environment"]
    assert {name: used[name] for name in asked} == asked


def test_an_agent_that_cannot_act_so_is_refused_before_any_work(tmp_path: Path) -> None:
    trial = TrialConfig("all", dataset=SMALL, environment={"action_mode": "multidiscrete"})
    for agent, modes in (
        ("dqn", "'discrete'"),
        *((agent, "'weights' or 'tempered'") for agent in ("sac", "td3")),
    ):
        with pytest.raises(
            ValueError, match=f"action_mode: {agent} .*'multidiscrete', only in {modes}"
        ):
            compare(ComparisonConfig(("all", agent), (0,), trial), tmp_path / "out", quiet=True)
    assert not (tmp_path / "out").exists()


def test_a_plugged_in_class_that_was_edited_is_not_mistaken_for_its_earlier_self(
    small_trial: dict[str, Any], load_source: LoadSource, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One edit each of an agent, a student, a reward, a teacher, and an agent's YAML."""
    ours = TrialConfig("all", **small_trial)
    unchanged = ours.key
    config = TrialConfig("mine", **small_trial)
    student = dict(small_trial, environment=small_trial["environment"] | {"student": "mine"})

    def plug_in(registry: dict[str, Any], name: str, body: str, **more: Any) -> None:
        module = load_source(f"class Mine:\n    {body}\n")
        thing = AgentSpec("", policy=module.Mine, **more) if registry is AGENTS else module.Mine
        monkeypatch.setitem(registry, name, thing)

    plug_in(AGENTS, "mine", "a = 1")
    keys = [config.key]
    plug_in(AGENTS, "mine", "a = 1")
    assert config.key == keys[0], "where a file lies does not matter"
    plug_in(AGENTS, "mine", "a = 2")
    keys.append(config.key)
    plug_in(AGENTS, "mine", "a = 2", hyperparameters="default: {}")
    keys.append(config.key)
    assert ours.key == unchanged, "other agents are not concerned"
    plug_in(STUDENTS, "mine", "a = 1")
    keys.append(TrialConfig("all", **student).key)
    plug_in(STUDENTS, "mine", "a = 2")
    keys.append(TrialConfig("all", **student).key)
    plug_in(REWARDS, "mine", "a = 1")
    keys.append(TrialConfig("a2c", reward="mine", **small_trial).key)
    plug_in(REWARDS, "mine", "a = 2")
    keys.append(TrialConfig("a2c", reward="mine", **small_trial).key)
    plug_in(TEACHERS, "mine", "a = 1")
    keys.append(TrialConfig("all", teachers=("mine",), **small_trial).key)
    plug_in(TEACHERS, "mine", "a = 2")
    keys.append(TrialConfig("all", teachers=("mine",), **small_trial).key)
    assert len(set(keys)) == len(keys)


def test_hyperparameters_merge_by_dataset() -> None:
    text = "default:\n  algorithm: {gamma: 0.0, ent_coef: 1}\nx:\n  algorithm: {gamma: 0.9}\n"
    assert parse_hyperparameters(text, "a.yml", "x")["algorithm"] == {"gamma": 0.9, "ent_coef": 1}
    assert parse_hyperparameters(text, "a.yml", "y")["algorithm"]["gamma"] == 0.0
    with pytest.raises(ValueError, match="algorithm"):
        parse_hyperparameters("default:\n  algorithmm: {}\n", "a.yml", "x")
    with pytest.raises(ValueError, match="default"):
        parse_hyperparameters("[]", "a.yml", "x")
    for agent, spec in AGENTS.items():
        if spec.learner:
            assert load_hyperparameters(agent, "emoji")["algorithm"]


def test_an_interrupted_trial_leaves_no_curves(small_trial: dict[str, Any], tmp_path: Path) -> None:
    config = TrialConfig("a2c", **small_trial)

    def interrupt(epoch: int, mrr: float) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_trial(config, tmp_path, interrupt)
    assert finished_trial(tmp_path, config) is None
    run_trial(config, tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert [event.step for event in events.Scalars("student/valid_mrr")] == [1, 2]


def test_a_reward_split_is_withheld_from_every_agent(small_trial: dict[str, Any]) -> None:
    """Baselines would otherwise learn from triples, and make updates, that learners must not."""
    steps = {
        run_trial(TrialConfig(agent, reward="heldout", **small_trial))["student_steps"]
        for agent in ("all", "fixed", "a2c")
    }
    assert len(steps) == 1
    graph = load_graph(SMALL)
    assert steps == {round(2 * 2 * round(0.95 * len(graph.triples["train"])) / 64)}


@pytest.mark.parametrize("agent", ["ppo", "sac", "td3"])
def test_a_tempered_trial_tells_how_sharp_soft_labels_were(
    agent: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    environment = small_trial["environment"] | {"action_mode": "tempered"}
    config = TrialConfig(agent, **(small_trial | {"environment": environment}))
    if agent != "ppo":
        # So small a budget is spent before they begin to learn.
        config = replace(config, changes={"algorithm": {"learning_starts": 128}})
    result = run_trial(config, tmp_path)
    again = run_trial(config)
    assert without_time(result) == without_time(again)
    assert own_soft_label(result)
    assert not own_soft_label(run_trial(TrialConfig(agent, **small_trial)))
    epochs = result["selection"]["epochs"]
    assert all(0.25 <= value <= 4 for value in epochs["tempering"])
    assert all(1 < value < 4 for value in epochs["tempering_spread"]), "it explores"
    assert result["calibration"]["preference"] == "weight"
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    assert_documented(events)
    assert agent == "ppo" or events.Scalars("train/actor_loss")
    curve = [event.value for event in events.Scalars("agent/mask/tempering")]
    np.testing.assert_allclose(curve, epochs["tempering"], rtol=1e-6)


def test_schedules_of_a_learner_run_over_the_budget(
    small_trial: dict[str, Any], tmp_path: Path
) -> None:
    """DQN explores for the first 30 % of the student's budget, not for ever."""
    run_trial(TrialConfig("dqn", **small_trial), tmp_path)
    events = EventAccumulator(str(tmp_path / "tensorboard"))
    events.Reload()
    rates = [event.value for event in events.Scalars("rollout/exploration_rate")]
    assert rates[-1] == pytest.approx(0.05)


def rehearsing(share: float, **trial: Any) -> TrialConfig:
    return TrialConfig("ppo@x", changes={"algorithm": {"rehearsal": share}}, **trial)


def test_whoever_has_rehearsed_begins_with_what_it_learned(small_trial: dict[str, Any]) -> None:
    """The student's budget, initial weights and first queries are as ever."""
    environment = small_trial["environment"] | {"bonus": 0.0}
    trial = small_trial | {"seed": 1, "epochs": 1, "environment": environment}
    without, rehearsed = (run_trial(rehearsing(share, **trial)) for share in (0, 8))
    assert rehearsed["student_steps"] == without["student_steps"]
    # Nobody at first knows better than chance; and all teachers would earn nothing.
    assert rehearsed["curves"]["reward"][0] > without["curves"]["reward"][0] + 0.02


def test_rewards_that_need_a_student_that_learns_are_not_rehearsed(
    small_trial: dict[str, Any],
) -> None:
    trial = small_trial | {"seed": 1}
    assert rehearsal_of(rehearsing(0.5, **trial)) == 0.5 * trial["epochs"]
    for reward, expected in (("gate", 1.0), ("improvement", 0.0), ("gate+improvement", 0.0)):
        assert rehearsal_of(rehearsing(0.5, reward=reward, **trial)) == expected
    for share in (-0.1, "much", True):
        with pytest.raises(ValueError, match="rehearsal of ppo@x must be a number ≥ 0"):
            resolve(rehearsing(share, **trial))  # type: ignore[arg-type]
