"""Studies: they find what is best, can be resumed, and never read the test split."""

import json
import os
import re
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import optuna
import pytest

import agents.tuning.study
from agents.hyperparameters import hyperparameters_file, load_hyperparameters
from agents.registry import AGENTS, AgentSpec
from agents.trial import run_trial, train_student
from agents.trial_config import TrialConfig, hyperparameters_of
from agents.tuning.config import TuningConfig, check_tuning
from agents.tuning.space import Range, flat, parse_space, read_space
from agents.tuning.study import JOURNAL, tune
from agents.tuning.winner import ranking, settings_of, writable_file, write_winner
from dsom_env.config import DSoMConfig
from graphs import load_graph, save_graph
from tests.agents.conftest import SMALL

GAMMA = "environment: {gamma: {low: 0.0, high: 10.0}}"
Curve = Callable[[float, int, int], float]


def config_of(space: str, trial: TrialConfig, **more: Any) -> TuningConfig:
    """Of a space written here."""
    arguments = {"seeds": (0, 1), "space": parse_space(space, "here"), "source": "here"}
    return TuningConfig(trial, **(arguments | more))


@pytest.fixture
def everyone(small_trial: dict[str, Any]) -> TrialConfig:
    return TrialConfig("all", **small_trial)


@pytest.fixture
def pretend(monkeypatch: pytest.MonkeyPatch) -> Callable[[Curve], list[float]]:
    """Students whose valid MRR is a function of γ, the seed and the epoch."""

    def install(curve: Curve) -> list[float]:
        seen: list[float] = []

        def train(config: TrialConfig, run: Any, on_epoch: Any) -> Any:
            gamma = config.changes["environment"]["gamma"]
            seen.append(gamma)
            for epoch in range(1, config.epochs + 1):
                on_epoch(epoch, curve(gamma, config.seed, epoch))
            return SimpleNamespace(recorded=SimpleNamespace(close=lambda: None), seconds=0.0)

        monkeypatch.setattr(agents.tuning.study, "train_student", train)
        return seen

    return install


def hill(gamma: float, seed: int, epoch: int) -> float:
    return epoch / 2 / (1 + (gamma - 7) ** 2)


def outcomes(document: dict[str, Any]) -> list[dict[str, Any]]:
    """Finished trials, without what may differ from run to run."""
    return [
        {key: value for key, value in trial.items() if key not in ("seconds", "number")}
        for trial in document["trials"]
        if trial["state"] in ("complete", "pruned")
    ]


def test_finds_a_known_optimum(everyone: TrialConfig, tmp_path: Path, pretend: Any) -> None:
    pretend(hill)
    document = tune(config_of(GAMMA, everyone, prune=False), tmp_path, trials=40, quiet=True)
    assert document == json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert document["complete"]
    first, best = document["trials"][0], document["best"]
    assert first["present"], "the default is among the candidates"
    assert first["parameters"] == {"environment": {"gamma": 3.0}}
    assert best["parameters"]["environment"]["gamma"] == pytest.approx(7, abs=0.3)
    assert best["valid_mrr"] == max(trial["valid_mrr"] for trial in document["trials"])
    lines = ranking(document).splitlines()
    assert lines[0].split()[-1] == "gamma"
    assert lines[1].split()[0] == str(best["number"])
    assert f"valid MRR {first['valid_mrr']:.4f}" in lines[-1]


def test_the_objective_is_the_mean_of_the_best_valid_mrr(
    everyone: TrialConfig, tmp_path: Path
) -> None:
    """On a real student: γ = 3 teaches, γ = 0 does not."""
    document = tune(config_of("environment: {gamma: [0, 3]}", everyone), tmp_path, 4, quiet=True)
    best = document["best"]
    assert settings_of(best["parameters"]) == "--set gamma=3"
    environment = everyone.environment | {"gamma": 3}
    runs = [run_trial(replace(everyone, seed=seed, environment=environment)) for seed in (0, 1)]
    wanted = [run["valid"]["mrr"] for run in runs]
    assert best["valid_mrr_by_seed"] == wanted
    assert best["valid_mrr"] == pytest.approx(sum(wanted) / 2)


class Killed(BaseException):
    """Nobody catches it."""


@pytest.mark.parametrize("how", ["interrupted", "killed"])
@pytest.mark.parametrize("after", [0, 9, 20])
def test_a_resumed_study_is_the_uninterrupted_one(
    how: str,
    after: int,
    everyone: TrialConfig,
    tmp_path: Path,
    pretend: Any,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    config = config_of(GAMMA, everyone, seed=3)
    pretend(hill)
    whole = tune(config, tmp_path / "whole", trials=14, quiet=True)
    assert {trial["state"] for trial in whole["trials"]} == {"complete", "pruned"}
    calls: list[float] = []

    def stop(gamma: float, seed: int, epoch: int) -> float:
        calls.append(gamma)
        if len(calls) > after:
            raise KeyboardInterrupt if how == "interrupted" else Killed
        return hill(gamma, seed, epoch)

    pretend(stop)
    out = tmp_path / "parts"
    with monkeypatch.context() as patch:
        if how == "killed":  # then nobody tidies up
            patch.setattr(agents.tuning.study, "_fail_running", lambda study: None)
        with pytest.raises((KeyboardInterrupt, Killed)):
            tune(config, out, trials=14, quiet=True)
    states = [trial["state"] for trial in json.loads((out / "study.json").read_text())["trials"]]
    assert states[-1] == ("failed" if how == "interrupted" else "running")
    if how == "killed":
        with (out / JOURNAL).open("ab") as journal:
            journal.write(b'{"op_code": 6, "worker')
    pretend(hill)
    resumed = tune(config, out, trials=14, quiet=True)
    assert outcomes(resumed) == outcomes(whole)
    assert [trial["state"] for trial in resumed["trials"]].count("failed") == 1


def test_more_trials_go_on_and_as_many_do_nothing(
    everyone: TrialConfig, tmp_path: Path, pretend: Any
) -> None:
    seen = pretend(hill)
    config = config_of(GAMMA, everyone)
    first = tune(config, tmp_path, trials=3, quiet=True)
    assert len(seen) == 6
    assert tune(config, tmp_path, trials=3, quiet=True) == first
    assert outcomes(tune(config, tmp_path, trials=1, quiet=True)) == outcomes(first)
    assert len(seen) == 6
    assert outcomes(tune(config, tmp_path, trials=5, quiet=True))[:3] == outcomes(first)


def test_another_configuration_is_refused(
    everyone: TrialConfig, tmp_path: Path, pretend: Any
) -> None:
    pretend(hill)
    config = config_of(GAMMA, everyone)
    tune(config, tmp_path, trials=1, quiet=True)
    before = (tmp_path / "study.json").read_bytes(), (tmp_path / JOURNAL).read_bytes()
    for other in (
        replace(config, seeds=(0,)),
        replace(config, seed=1),
        replace(config, prune=False),
        replace(config, trial=replace(everyone, epochs=3)),
        replace(config, space=parse_space("environment: {gamma: [3.0]}", "here")),
    ):
        with pytest.raises(ValueError, match="another configuration"):
            tune(other, tmp_path, trials=2, quiet=True)
    assert before == ((tmp_path / "study.json").read_bytes(), (tmp_path / JOURNAL).read_bytes())
    (tmp_path / JOURNAL).write_text("[]\n")
    with pytest.raises(ValueError, match=r"journal\.log is not the journal of a study"):
        tune(config, tmp_path, trials=2, quiet=True)


@pytest.mark.parametrize("agent", ["all", "ppo"])
def test_the_test_split_is_not_read(
    agent: str, small_trial: dict[str, Any], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import dsom_env.classroom as classroom

    evaluate = classroom.evaluate_ranking

    def guarded(score: Any, graph: Any, split: str) -> dict[str, float]:
        assert split != "test", "the test split was read"
        return evaluate(score, graph, split)

    monkeypatch.setattr(classroom, "evaluate_ranking", guarded)
    small_trial = small_trial | {"teachers": ("structure", "text"), "epochs": 1}
    small_trial["environment"] = small_trial["environment"] | {"teacher_epochs": 1}
    with pytest.raises(AssertionError, match="was read"):
        run_trial(TrialConfig(agent, **small_trial))
    graph = load_graph(SMALL)
    documents = []
    for name, rows in (("whole", slice(None)), ("part", slice(0, 5))):
        triples = {**graph.triples, "test": graph.triples["test"][rows].copy()}
        save_graph(replace(graph, triples=triples), tmp_path / name)
        trial = TrialConfig(agent, **(small_trial | {"dataset": str(tmp_path / name)}))
        config = config_of("environment: {only_beneficial: [true, false]}", trial, seeds=(0,))
        documents.append(tune(config, tmp_path / f"{name}-out", trials=2, quiet=True))
    assert outcomes(documents[0]) == outcomes(documents[1])


def test_what_lags_behind_is_pruned(everyone: TrialConfig, tmp_path: Path, pretend: Any) -> None:
    def curve(gamma: float, seed: int, epoch: int) -> float:
        return gamma / 10 * epoch / 8

    seen = pretend(curve)
    config = config_of(GAMMA, replace(everyone, epochs=8))
    document = tune(config, tmp_path / "pruned", trials=25, quiet=True)
    lagging = [trial for trial in document["trials"] if trial["state"] == "pruned"]
    assert len(lagging) >= 3
    assert len(seen) < 50, "a pruned choice does not train the other seeds' students"
    best = document["best"]["parameters"]["environment"]["gamma"]
    for trial in lagging:
        assert trial["number"] >= 5
        assert 2 <= trial["epochs"] < 16
        assert trial["parameters"]["environment"]["gamma"] < best
    patient = tune(replace(config, prune=False), tmp_path / "all", trials=25, quiet=True)
    assert {trial["state"] for trial in patient["trials"]} == {"complete"}


def test_pruning_compares_like_with_like(
    everyone: TrialConfig, tmp_path: Path, pretend: Any
) -> None:
    """A student that starts slowly is not pruned beside the first seed's, which had ended."""

    def curve(gamma: float, seed: int, epoch: int) -> float:
        return 0.5 * epoch / 8

    pretend(curve)
    config = config_of(GAMMA, replace(everyone, epochs=8))
    document = tune(config, tmp_path, trials=8, quiet=True)
    assert {trial["state"] for trial in document["trials"]} == {"complete"}
    study = optuna.load_study(
        study_name="tune", storage=agents.tuning.study._storage(tmp_path / JOURNAL)
    )
    for trial in study.trials:
        values = [trial.intermediate_values[step] for step in range(1, 17)]
        assert values == sorted(values)
        assert values[-1] == trial.value


@pytest.mark.parametrize(
    ("agent", "space", "says"),
    [
        ("all", "environment: {learning_rate: [1e30, 1e31]}", "loss is"),
        ("ppo", "algorithm: {learning_rate: [1e30], max_grad_norm: [1e30]}", "ppo's policy"),
    ],
)
def test_what_diverges_counts_and_the_study_goes_on(
    agent: str, space: str, says: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    config = config_of(space, TrialConfig(agent, **small_trial), seeds=(0,))
    document = tune(config, tmp_path, trials=2, quiet=True)
    assert document["complete"]
    assert document["best"] is None
    assert [trial["state"] for trial in document["trials"]] == ["pruned", "pruned"]
    assert says in document["trials"][0]["error"]


def test_a_refused_choice_ends_the_study(
    everyone: TrialConfig, tmp_path: Path, pretend: Any
) -> None:
    def refuse(gamma: float, seed: int, epoch: int) -> float:
        raise ValueError("no student wants this")

    pretend(refuse)
    with pytest.raises(ValueError, match=r"no student wants this; trial 0 had chosen .*gamma"):
        tune(config_of(GAMMA, everyone), tmp_path, trials=3, quiet=True)
    document = json.loads((tmp_path / "study.json").read_text("utf-8"))
    assert [trial["state"] for trial in document["trials"]] == ["failed"]
    assert not document["complete"]
    pretend(hill)
    assert tune(config_of(GAMMA, everyone), tmp_path, trials=3, quiet=True)["complete"]


LEARNERS = [name for name, spec in AGENTS.items() if spec.learner]


@pytest.mark.parametrize("agent", [*LEARNERS, "all"])
def test_every_space_that_ships_holds_todays_values_and_runs(
    agent: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    config = TuningConfig.make(TrialConfig(agent, **(small_trial | {"epochs": 1})), (0,))
    first, second = tune(config, tmp_path, trials=2, quiet=True)["trials"]
    assert first["present"]
    today = run_trial(config.trial)
    assert first["valid_mrr"] == today["valid"]["mrr"]
    assert flat(second["parameters"]).keys() == config.space.keys()
    if agent in LEARNERS:
        merged = today["hyperparameters"]
        for section, values in first["parameters"].items():
            known = vars(DSoMConfig()) | merged[section]
            assert values == {name: known[name] for name in values}


def test_what_is_fixed_is_not_searched(small_trial: dict[str, Any]) -> None:
    environment = small_trial["environment"] | {"horizon": 2}
    trial = TrialConfig("a2c", **(small_trial | {"environment": environment, "reward": "gate"}))
    space, _ = read_space("a2c", None)
    left = TuningConfig.make(trial, (0,)).space
    assert space.keys() - left.keys() == {"environment.horizon", "environment.reward"}


def test_changes_reach_the_learner_only(small_trial: dict[str, Any]) -> None:
    trial = TrialConfig("reinforce", **small_trial)
    changes = {"algorithm": {"episodes": 2}, "policy": {"net_arch": [8]}}
    used = train_student(replace(trial, changes=changes)).extras["hyperparameters"]
    assert (used["algorithm"]["episodes"], used["policy"]["net_arch"]) == (2, [8])
    assert used["algorithm"]["gamma"] == hyperparameters_of(trial)["algorithm"]["gamma"]
    with pytest.raises(ValueError, match="all does not learn: it has no algorithm"):
        train_student(TrialConfig("all", **small_trial, changes=changes))


@pytest.mark.parametrize(
    ("agent", "space", "says"),
    [
        ("all", "[", "not YAML"),
        ("all", "[]", "expected a mapping"),
        ("all", "enviroment: {gamma: [1]}", "did you mean 'environment'"),
        ("all", "environment: [gamma]", "expected names"),
        ("all", "environment: {}", "nothing is left"),
        ("all", "environment: {gama: [1]}", "'gama'; did you mean 'gamma'"),
        ("all", "environment: {teachers: [[text]]}", "teachers"),
        ("all", "environment: {gamma: 3}", "list of options, or a range"),
        ("all", "environment: {gamma: []}", "distinct and at least one"),
        ("all", "environment: {gamma: [1, 1.0]}", "distinct"),
        ("all", "environment: {gamma: [2020-01-01]}", "JSON types"),
        ("all", "environment: {gamma: {low: 1, hight: 2}}", "did you mean 'high'"),
        ("all", "environment: {gamma: {low: 3, high: 1}}", "low must be a number below high"),
        ("all", "environment: {gamma: {low: 1}}", "low must be a number below high"),
        ("all", "environment: {gamma: {low: 0, high: 1, log: true}}", "above 0"),
        ("all", "environment: {gamma: {low: 1, high: 2, log: 1}}", "true or false"),
        ("all", "environment: {gamma: {low: 0, high: 1.0, step: 0.3}}", "do not lead"),
        ("all", "environment: {horizon: {low: 1, high: 4, step: 0.5}}", "whole number above 0"),
        ("all", "environment: {gamma: {low: -1, high: 1}}", ": gamma must be"),
        ("all", "environment: {combination: [probs, prob]}", "did you mean 'probs'"),
        ("ppo", "environment: {cotrain: [true, false]}", "needs a student that learns"),
        ("all", "algorithm: {gamma: [0.5]}", "section: unknown 'algorithm'"),
        ("ppo", "algorithm: {ent_coeff: [0.5]}", "did you mean 'ent_coef'"),
        ("ppo", "algorithm: {batch_size: [64]}", "unknown 'batch_size'"),
        ("ppo", "policy: {net_arc: [[8]]}", "did you mean 'net_arch'"),
        (
            "ppo",
            "algorithm: {minibatches: [4, 3]}",
            "3 do not divide a rollout of 256",
        ),
        ("ppo", "algorithm: {n_steps: {low: 1, high: 4}, minibatches: [128]}", "rollout of 64"),
        ("ppo", "algorithm: {minibatches: [256]}", "one step each"),
        ("dqn", "environment: {action_mode: [mask]}", "only in 'discrete'"),
        ("ppo", "environment: {reward: [gates]}", "did you mean 'gate'"),
        (
            "ppo",
            "environment: {reward: [gate, heldout], reward_fraction: [0.0, 0.1]}",
            "needs a reward_fraction above 0",
        ),
    ],
)
def test_a_bad_space_is_refused_before_any_work(
    agent: str, space: str, says: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    path, out = tmp_path / "space.yml", tmp_path / "out"
    path.write_text(space)
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        tune(TuningConfig.make(TrialConfig(agent, **small_trial), (0,), path), out)
    assert str(path) in str(raised.value)
    assert not out.exists()


def test_other_refusals(
    everyone: TrialConfig, small_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    config = config_of(GAMMA, everyone)
    for arguments in ({"trials": 0}, {"jobs": 0}):
        with pytest.raises(ValueError, match=f"{next(iter(arguments))} must be at least 1"):
            tune(config, Path("nowhere"), **arguments)
    with pytest.raises(ValueError, match="its trial has no changes"):
        replace(config, trial=replace(everyone, changes={"environment": {"gamma": 1}}))
    for change in ({"seeds": (1, 1)}, {"seeds": ()}, {"seed": -1}):
        with pytest.raises(ValueError, match="seed"):
            replace(config, **change)  # type: ignore[arg-type]
    monkeypatch.setitem(AGENTS, "mine", AgentSpec("", learner=lambda **_: None))
    with pytest.raises(ValueError, match="mine has no search space of its own"):
        TuningConfig.make(TrialConfig("mine", **small_trial), (0,))
    with pytest.raises(ValueError, match="did you mean 'a2c'"):
        check_tuning(config_of(GAMMA, TrialConfig("a2", **small_trial)))


def test_ranges() -> None:
    space = parse_space("algorithm: {a: {low: 1e-3, high: 3e-1, log: true}, b: [1e-5]}", "here")
    assert space["algorithm.a"] == Range(0.001, 0.3, log=True)
    assert 1e-5 in space["algorithm.b"]
    fine = Range(0.123446, 9.876543)
    # .1234 and 9.877 would lie outside.
    inside = [fine.rounded(value) for value in (0.123446, 1.234567, 9.876543)]
    assert inside == [0.123446, 1.235, 9.876543]
    steps = Range(0.0, 1.0, step=0.1)
    assert 0.3 in steps
    assert 0.35 not in steps
    whole = Range(1, 7, step=3)
    assert whole.samples() == (1, 4, 7)
    assert [value in whole for value in (4, 5, 4.0, True)] == [True, False, False, False]


@pytest.fixture
def own_files(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the YAML files, in the place of those of the package."""
    folder = tmp_path / "hyperparameters"
    folder.mkdir()
    for agent in LEARNERS:
        text = hyperparameters_file(agent).read_text("utf-8")
        (folder / f"{agent}.yml").write_text(text, "utf-8")
    monkeypatch.setattr("agents.hyperparameters.files", lambda package: folder)
    return folder


def test_the_winner_is_written_and_loaded(
    small_trial: dict[str, Any], tmp_path: Path, own_files: Path
) -> None:
    environment = small_trial["environment"] | {"horizon": 2}
    trial = TrialConfig("ppo", **(small_trial | {"environment": environment}))
    space = "environment: {reward: [gate]}\nalgorithm: {n_epochs: [1], max_grad_norm: [0.25]}"
    config = config_of(space, trial)
    document = tune(config, tmp_path / "out", trials=1, quiet=True)
    document["provenance"]["command"] = "python /home/me/scripts/tune.py --out /home/me/runs/x"
    before = load_hyperparameters("ppo", "planted")
    header = (own_files / "ppo.yml").read_text("utf-8").splitlines()[0]
    path = write_winner(config, document, "planted")
    assert path == own_files / "ppo.yml"
    loaded = load_hyperparameters("ppo", "planted")
    # The horizon was fixed for this agent; rank and teacher_rank are the whole comparison's.
    assert loaded["environment"] == before["environment"] | {"reward": "gate", "horizon": 2}
    changed = {"n_epochs": 1, "max_grad_norm": 0.25}
    assert loaded["algorithm"] == before["algorithm"] | changed
    assert load_hyperparameters("ppo", "elsewhere") == before
    text = path.read_text("utf-8")
    lines = text.splitlines()
    assert lines[0] == header
    comment = lines[lines.index("planted:") - 1]
    assert comment.startswith("# Tuned:")
    assert f"valid MRR {document['best']['valid_mrr']:.4f}, mean of seeds 0, 1" in comment
    assert "1 trials of 2 epochs" in comment
    assert comment.endswith("python scripts/tune.py --out runs/x")
    write_winner(config, document, "planted")
    assert path.read_text("utf-8") == text
    write_winner(config, document, "default")
    assert load_hyperparameters("ppo", "elsewhere")["algorithm"] == loaded["algorithm"]
    assert path.read_text("utf-8").splitlines()[0] == header
    assert tune(config, tmp_path / "out", trials=1, quiet=True)["complete"], "the same study still"
    nothing = document | {"best": None}
    with pytest.raises(ValueError, match="no winner"):
        write_winner(config, nothing, "default")


def test_winners_that_must_not_be_written(
    small_trial: dict[str, Any], own_files: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ppo = TrialConfig("ppo", **small_trial)
    with pytest.raises(ValueError, match="all does not learn"):
        writable_file(config_of(GAMMA, TrialConfig("all", **small_trial)))
    with pytest.raises(ValueError, match="gamma has to be the same for every agent"):
        writable_file(config_of(GAMMA, ppo))
    config = config_of("algorithm: {n_epochs: [1]}", ppo)
    assert writable_file(config) == own_files / "ppo.yml"
    access = os.access
    with monkeypatch.context() as patch:
        patch.setattr(os, "access", lambda path, mode: path != own_files and access(path, mode))
        with pytest.raises(ValueError, match=r"ppo\.yml cannot be written"):
            writable_file(config)
    monkeypatch.setitem(AGENTS, "ppo", replace(AGENTS["ppo"], hyperparameters="default: {}"))
    with pytest.raises(ValueError, match="ppo was plugged in"):
        writable_file(config)
