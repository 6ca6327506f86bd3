"""Variants: what differs reaches the trial it is meant for, and everything else stays paired."""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from agents.comparison import ComparisonConfig, compare, trial_folder
from agents.headroom import head_room
from agents.report import render_report
from agents.report.markdown import render_results
from agents.report.outcome import parse_results, shown_command
from agents.report.published import parse_published
from agents.statistics import summarise
from agents.trial import load_trained_student, run_trial
from agents.trial_config import TrialConfig, fill_caches, hyperparameters_of
from agents.variants import changes_of, check_trial, parse_variants, read_variants
from agents.verdicts import learners_of, overall_verdict, rivals_of, terminal_table
from dsom_env.classroom import Classroom
from tests.agents.conftest import SMALL, assert_alike_in_class
from tests.programs import program

ROOT = Path(__file__).parents[2]
VARIANTS = """
ppo@bandit:
  environment: {reward: gate, horizon: 1}
  algorithm: {gamma: 0.5, learning_rate: 1e-2}
  policy: {net_arch: [8]}
"""


def same(result: dict[str, Any]) -> dict[str, Any]:
    """But for time and name."""
    left_out = ("seconds", "agent", "changes")
    return {key: value for key, value in result.items() if key not in left_out}


@pytest.fixture
def configs(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Of the environments that were begun."""
    seen: list[Any] = []
    original = Classroom.__init__

    def spy(self: Classroom, config: Any, *arguments: Any) -> None:
        seen.append(config)
        original(self, config, *arguments)

    monkeypatch.setattr(Classroom, "__init__", spy)
    return seen


def test_keys_of_trials_without_changes_are_those_of_before_there_were_any() -> None:
    """Or finished trials would have to run again. Written down from the version before."""
    assert TrialConfig("ppo").key == "df45f44ea99e0241"
    more: dict[str, Any] = {"dataset": "planted", "epochs": 2, "batch": 64, "reward": "gate"}
    config = TrialConfig("all", seed=3, teachers=("text",), environment={"rank": 8}, **more)
    assert config.key == "d9d5afda773825cf"
    assert "changes" not in config.to_json()
    changed = [
        replace(config, agent="all@x", changes={"environment": {"gamma": gamma}}).key
        for gamma in (1, 2)
    ]
    assert len({config.key, *changed}) == 3


def test_changes_reach_environment_algorithm_and_policy_and_nothing_else(
    small_trial: dict[str, Any], configs: list[Any]
) -> None:
    trial = TrialConfig("ppo", **(small_trial | {"epochs": 1, "reward": "log_score"}))
    trial = replace(trial, environment=trial.environment | {"horizon": 2, "hide": ["student"]})
    changes = parse_variants(VARIANTS, "here")["ppo@bandit"]
    plain, varied = run_trial(trial), run_trial(replace(trial, agent="ppo@bandit", changes=changes))
    assert "changes" not in plain
    assert (varied["agent"], varied["changes"]) == ("ppo@bandit", changes)
    # Without those of rehearsals.
    mine, theirs = (config for config in configs if config.cotrain)
    # Above --reward and --set, which are above the YAML.
    alike: dict[str, Any] = {"reward": "gate", "bonus": 0.0, "horizon": 1}
    assert replace(theirs, **alike) == replace(mine, **alike)
    assert (theirs.reward, theirs.horizon, theirs.hide) == ("gate", 1, ("student",))
    assert (mine.reward, mine.horizon) == ("log_score", 2)
    used, usual = varied["hyperparameters"], plain["hyperparameters"]
    assert used["algorithm"] == usual["algorithm"] | {"gamma": 0.5, "learning_rate": 0.01}
    assert used["policy"] == usual["policy"] | {"net_arch": [8]}
    assert used["environment"]["reward"] == "gate"
    assert hyperparameters_of(trial)["algorithm"] == usual["algorithm"]


def test_a_variant_that_says_what_is_so_anyway_is_its_agent_to_the_bit(
    small_trial: dict[str, Any],
) -> None:
    trial = TrialConfig("ppo", seed=4, **(small_trial | {"epochs": 1}))
    usual = hyperparameters_of(trial)
    changes = {"environment": {"horizon": usual["environment"]["horizon"]}}
    changes["algorithm"] = {"gamma": usual["algorithm"]["gamma"]}
    varied = run_trial(replace(trial, agent="ppo@same", changes=changes))
    assert same(run_trial(trial)) == same(varied)


def test_variants_of_a_seed_see_the_same_student_and_queries(
    small_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    variants = {
        "all": {},
        "ppo@mode": {"environment": {"action_mode": "discrete", "horizon": 2}},
        "ppo@long": {"algorithm": {"gamma": 0.9, "n_steps": 8}},
        "all@label": {"environment": {"combination": "probs", "gamma": 1.0, "folds": 2}},
    }
    settings = small_trial | {"epochs": 1}
    trials = [TrialConfig(name, 5, **settings, changes=made) for name, made in variants.items()]
    assert_alike_in_class(trials, monkeypatch)


def test_caches_are_filled_for_what_variants_ask(
    small_trial: dict[str, Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    monkeypatch.setattr(
        "agents.trial_config.open_store",
        lambda graph, teachers, pretraining, folds, top_k, report: asked.append(folds),
    )
    trial = TrialConfig("all", **small_trial)
    folds = [
        replace(trial, agent=agent, changes={"environment": changes})
        for agent, changes in (("all@f", {"folds": 3}), ("ppo@j", {"judged_folds": 4}))
    ]
    fill_caches([trial, *folds], quiet=True)
    assert set(asked) == {1, 3, 4}


@pytest.fixture(scope="module")
def compared(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, ComparisonConfig, Any]:
    """In processes of their own."""
    out = tmp_path_factory.mktemp("variants")
    environment = {"rank": 8, "teacher_rank": 8}
    trial = TrialConfig("all", dataset=SMALL, epochs=1, batch=64, environment=environment)
    agents = ("all", "random", "ppo@bandit", "single:text@probs", "oracle@probs")
    variants = parse_variants(VARIANTS, "here") | {
        f"{agent}@probs": {"environment": {"combination": "probs"}}
        for agent in ("single:text", "oracle", "nobody")
    }
    config = ComparisonConfig(agents, (100, 101), trial, variants, "here")
    return out, config, compare(config, out, jobs=1, quiet=True)


def test_workers_get_what_differs(compared: tuple[Path, ComparisonConfig, Any]) -> None:
    out, config, results = compared
    assert results["complete"], results["failures"]
    written = json.loads((out / "results.json").read_text("utf-8"))
    assert [run["agent"] for run in written["runs"][::2]] == list(config.agents)
    assert {row["agent"] for row in written["summary"]} == set(config.agents)
    used = {agent: config.variants[agent] for agent in config.agents if "@" in agent}
    assert written["config"]["variants"] == used
    assert "changes" not in written["config"]
    for index in (2, 3):
        trial = config.trials()[index]
        (run,) = [r for r in written["runs"] if (r["agent"], r["seed"]) == (trial.agent, 100)]
        assert same(run) == same(json.loads(json.dumps(run_trial(trial))))
        assert run["changes"] == trial.changes
    assert [run["oracle"] for run in written["runs"]] == [False] * 8 + [True] * 2
    student, _ = load_trained_student(trial_folder(out, config.trials()[3]))
    assert sum(p.numel() for p in student.parameters()) > 0


def test_the_same_variants_resume_and_others_are_refused(
    compared: tuple[Path, ComparisonConfig, Any],
) -> None:
    out, config, results = compared
    again = compare(config, out, quiet=True)
    assert [same(run) for run in again["runs"]] == [same(run) for run in results["runs"]]
    edited = dict(config.variants) | {"ppo@bandit": {"algorithm": {"gamma": 0.6}}}
    with pytest.raises(ValueError, match="another configuration"):
        compare(replace(config, variants=edited), out, quiet=True)
    # What is not compared may say what it likes.
    unused = dict(config.variants) | {"ppo@typo": {"algorithm": {"gama": 0.6}}}
    assert compare(replace(config, variants=unused), out, quiet=True)["complete"]


def test_what_is_written_about_variants(compared: tuple[Path, ComparisonConfig, Any]) -> None:
    _, config, results = compared
    assert learners_of(results) == ["ppo@bandit"]
    text, page = terminal_table(results), render_report(json.loads(json.dumps(results)))
    header, *rows = text.splitlines()[: len(config.agents) + 1]
    assert len({len(header), *map(len, rows)}) == 1, "columns stand below each other"
    for agent in config.agents:
        assert agent in page
        assert any(row.startswith(f"{agent} ") for row in rows)
    assert "<summary>ppo@bandit</summary>" in page
    published = parse_published(json.loads((ROOT / "docs/published.json").read_text("utf-8")))
    markdown = render_results([parse_results(json.loads(json.dumps(results)))], published)
    assert "| `ppo@bandit` | 2 |" in markdown
    assert '* `single:text@probs`: environment combination "probs"' in markdown
    assert "policy net_arch [8]" in markdown
    command = "python compare.py --variants /home/me/docs/ablations.yml --out /x/y"
    shown = "python scripts/compare.py --variants ablations.yml --out runs/y"
    assert shown_command(command, "emoji", "emoji") == shown


BASE = [0.50, 0.52, 0.51]
PROBS = {"environment": {"combination": "probs"}}


def results_of(gains: dict[str, float], changes: dict[str, Any]) -> dict[str, Any]:
    """Test MRR of three seeds, each shifted by almost the same."""
    runs = []
    for agent, gain in gains.items():
        for seed, value in enumerate(BASE):
            mrr = value + gain + 0.0001 * (-1) ** seed * (agent != "all")
            metrics = {"mrr": mrr, "hits@1": mrr, "hits@10": mrr}
            run = {"agent": agent, "seed": seed, "test": metrics, "valid": metrics}
            run |= {"seconds": 1.0, "search_epochs": 0.0, "oracle": agent.startswith("oracle")}
            run |= {"hyperparameters": {}} if agent.startswith(("ppo", "a2c")) else {}
            run |= {"changes": changes[agent]} if agent in changes else {}
            runs.append(run)
    found = {"runs": runs, "summary": summarise(runs), "complete": True, "failures": []}
    found["verdict"] = overall_verdict(found)
    return found


def test_a_variant_of_a_learner_is_a_learner_beside_its_own() -> None:
    changes = {"ppo@gate": {"environment": {"reward": "gate"}}}
    gains = {"all": 0.0, "random": 0.0, "a2c": 0.0, "ppo@gate": 0.02, "ppo": 0.0}
    found = results_of(gains, changes)
    assert learners_of(found) == ["a2c", "ppo", "ppo@gate"]
    assert found["verdict"] == "ppo@gate beats every control (all, random): choosing helped."
    assert rivals_of(found, "ppo@gate") == ["ppo", "all", "random"]
    assert rivals_of(found, "ppo") == ["all", "random"]
    assert "ppo@gate beats ppo (+0.0200 [" in terminal_table(found)


def test_another_soft_label_is_no_proof_of_choosing() -> None:
    """`ppo@probs` beats the controls, but so do they when they are taught as it was."""
    agents = ("all", "random", "ppo", "oracle")
    gains = dict.fromkeys(agents, 0.0) | {f"{agent}@probs": 0.1 for agent in agents}
    found = results_of(gains, {f"{agent}@probs": PROBS for agent in agents})
    assert found["verdict"].startswith(
        "Choosing per triple did not help here: ppo does not beat all, random. Taught by another "
        "soft label, and not judged here: ppo@probs. Head-room"
    )
    assert rivals_of(found, "ppo@probs") == ["ppo", "all@probs", "random@probs"]
    assert rivals_of(found, "ppo") == ["all", "random"]
    room = head_room(found["runs"])
    assert room is not None
    assert (room.oracle, room.control) == ("oracle", "random")
    table = " ".join(terminal_table(found).split())
    assert "ppo@probs beats ppo (+0.1000 [" in table
    assert "is not distinguishable from all@probs" in table
    assert "all@probs beats all by +0.100" in table
    assert "random@probs beats random by +0.100" in table
    alone = {"all": 0.0, "random": 0.0, "ppo@probs": 0.1}
    assert results_of(alone, {"ppo@probs": PROBS})["verdict"].startswith(
        "No learning agent had the soft label of the others"
    )


def test_who_chooses_how_sharp_the_soft_label_is_has_another_than_the_controls() -> None:
    """`ppo@tempered` may win by one sharpness for all queries, which is no choice per triple."""
    agents = ("all", "random", "ppo", "oracle", "ppo@tempered")
    changes = {"ppo@tempered": {"environment": {"action_mode": "tempered"}}}
    found = results_of(dict.fromkeys(agents, 0.0) | {"oracle": 0.1, "ppo@tempered": 0.3}, changes)
    for run in found["runs"]:
        if run["agent"] == "ppo@tempered":
            run["selection"] = {"epochs": {"tempering": [0.3]}}
    verdict = overall_verdict(found)
    assert "Taught by another soft label, and not judged here: ppo@tempered." in verdict
    assert verdict.startswith("Choosing per triple did not help here: ppo does not beat all, rand")
    room = head_room(found["runs"])
    assert room is not None
    assert "ppo@tempered" not in room.shares
    assert "ppo@tempered beats ppo (+0.3000 [" in terminal_table(found)


def test_variants_count_in_head_room_as_what_they_vary() -> None:
    changes = {name: {"environment": {"judged_folds": 5}} for name in ("oracle@j", "all@j")}
    runs = results_of({"oracle@j": 0.1, "all@j": 0.01, "all": 0.0, "ppo": 0.05}, changes)["runs"]
    room = head_room(runs)
    assert room is not None
    assert (room.oracle, room.control) == ("oracle@j", "all@j")
    assert room.share("ppo") == "44 %"


def test_the_page_has_a_column_for_what_is_varied(
    compared: tuple[Path, ComparisonConfig, Any],
) -> None:
    results = json.loads(json.dumps(compared[2]))
    for run in results["runs"]:
        run["agent"] = "ppo" if run["agent"] == "random" else run["agent"]
        run["test"]["mrr"] = {"ppo": 0.3, "ppo@bandit": 0.4}.get(run["agent"], 0.1)
    results["summary"] = summarise(results["runs"])
    section = render_report(results).split("<h2>Against every control</h2>")[1].split("<h2>")[0]
    assert '<th scope="col">what it varies</th>' in section
    (row,) = [row for row in section.split("<tr>") if ">ppo@bandit<" in row]
    assert re.findall(r"[+-]\d\.\d{4}(?=<)", row)[-1] == "+0.1000"


def test_the_soft_labels_that_ship_can_all_be_run(small_trial: dict[str, Any]) -> None:
    path = ROOT / "docs/labels.yml"
    for agent, changes in read_variants(path).items():
        check_trial(TrialConfig(agent, **small_trial, changes=changes), str(path))


def test_the_ablations_that_ship_can_all_be_run(small_trial: dict[str, Any]) -> None:
    path = ROOT / "docs/ablations.yml"
    variants = read_variants(path)
    environment = small_trial["environment"] | {"reward_fraction": 0.05}
    trial = TrialConfig("all", **(small_trial | {"environment": environment}))
    assert len(variants) > 20
    for agent, changes in variants.items():
        check_trial(replace(trial, agent=agent, changes=changes), str(path))
    guide = (ROOT / "docs/plugging-in.md").read_text("utf-8")
    for text in (path.read_text("utf-8"), guide):
        (example,) = re.findall(r"--agents (\S+)", text)
        for agent in example.split(","):
            changes_of(agent, variants, "here")
    (example,) = re.findall(r"```yaml\n(.*?)```", guide, flags=re.S)
    for agent, changes in parse_variants(example, "guide").items():
        check_trial(replace(trial, agent=agent, changes=changes), "guide")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("[", "not YAML"),
        ("[]", "expected a mapping"),
        ("", "expected a mapping"),
        ("ppo: {algorithm: {gamma: 0.9}}", "as in ppo@short; got 'ppo'"),
        ("ppo@a/b: {algorithm: {gamma: 0.9}}", "got 'ppo@a/b'"),
        ("'ppo@': {algorithm: {gamma: 0.9}}", "got 'ppo@'"),
        ("3: {algorithm: {gamma: 0.9}}", "got 3"),
        ("ppo@x: 3", "ppo@x: expected some of environment, algorithm, policy"),
        ("ppo@x: {}", "ppo@x: expected some of"),
        ("ppo@x: {algorithm: {}}", "expected names and values under algorithm"),
        ("ppo@x: {algoritm: {gamma: 0.9}}", "ppo@x, section: unknown 'algoritm'; did you mean 'al"),
        ("ppo@x: {algorithm: {gamma: .nan}}", "JSON types"),
        ("ppo@x: {algorithm: {gamma: 2020-01-01}}", "JSON types"),
        ("ppo@x: {algorithm: {gamma: 0.9}}\nppo@x: {policy: {a: 1}}", "ppo@x is there twice"),
        ("ppo@x: {algorithm: {gamma: 0.9, gamma: 0.8}}", "gamma is there twice"),
    ],
)
def test_other_files_are_refused(text: str, says: str) -> None:
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        parse_variants(text, "here.yml")
    assert str(raised.value).startswith("here.yml")


@pytest.mark.parametrize(
    ("text", "says"),
    [
        ("pppo@x: {algorithm: {gamma: 0.9}}", "unknown 'pppo'; did you mean 'ppo'"),
        ("single:txt@x: {environment: {folds: 2}}", "did you mean 'single:text'"),
        ("ppo@x: {environment: {gama: 2}}", "environment: unknown 'gama'; did you mean 'gamma'"),
        ("ppo@x: {environment: {num_envs: 2}}", "environment: unknown 'num_envs'"),
        ("ppo@x: {algorithm: {gama: 2}}", "algorithm: unknown 'gama'; did you mean 'gamma'"),
        ("ppo@x: {policy: {net_arc: [2]}}", "policy: unknown 'net_arc'; did you mean 'net_arch'"),
        ("ppo@x: {environment: {gamma: much}}", "gamma must be a number"),
        ("ppo@x: {environment: {reward: gaet}}", "did you mean 'gate'"),
        ("ppo@x: {environment: {hide: [anwser]}}", "did you mean 'answer'"),
        ("ppo@x: {algorithm: {gamma: much}}", "algorithm: gamma is 0.0 without it, got 'much'"),
        ("a2c@x: {algorithm: {normalize_advantage: 1}}", "is True without it, got 1"),
        ("ppo@x: {policy: {net_arch: [much]}}", "the algorithm refuses its arguments"),
        ("ppo@x: {algorithm: {n_steps: 2.5}}", "the algorithm refuses its arguments"),
        ("ppo@x: {algorithm: {minibatches: 3}}", "3 do not divide a rollout of 256"),
        ("dqn@x: {environment: {action_mode: mask}}", "only in 'discrete'"),
        ("all@x: {algorithm: {gamma: 0.9}}", "does not learn: it has no algorithm"),
        ("all@x: {environment: {reward: gate}}", "all does not learn: reward changes nothing"),
        ("oracle@x: {environment: {hide: [answer]}}", "hide changes nothing"),
        ("ppo@x: {environment: {rank: 16}}", "rank has to be the same for every agent"),
        ("ppo@x: {environment: {student: rotate}}", "student has to be the same"),
        ("ppo@x: {environment: {learning_rate: 1}}", "learning_rate has to be the same"),
        ("ppo@x: {environment: {regularisation: 1}}", "regularisation has to be the same"),
        ("ppo@x: {environment: {dataset: emoji}}", "dataset has to be the same"),
        ("ppo@x: {environment: {teachers: [text]}}", "teachers has to be the same"),
        ("ppo@x: {environment: {teacher_rank: 16}}", "teacher_rank has to be the same"),
        ("ppo@x: {environment: {reward_fraction: 0.1}}", "reward_fraction has to be the same"),
        (
            "ppo@x: {environment: {reward: heldout}}",
            "reward 'heldout' withholds 0.05 of the training triples and the other agents' 0; "
            "--set reward_fraction=0.05 makes them the same",
        ),
    ],
)
def test_bad_variants_are_refused_before_any_work(
    text: str, says: str, small_trial: dict[str, Any], tmp_path: Path
) -> None:
    variants = parse_variants(text, "here.yml")
    (agent,) = variants
    trial, out = TrialConfig("all", **small_trial), tmp_path / "out"
    with pytest.raises(ValueError, match=re.escape(says)) as raised:
        compare(ComparisonConfig((agent,), (0,), trial, variants, "here.yml"), out, quiet=True)
    assert str(raised.value).startswith(f"here.yml: {agent}: ")
    assert not out.exists()


def test_a_reward_split_that_everybody_withholds_is_no_difference(
    small_trial: dict[str, Any],
) -> None:
    changes = {"environment": {"reward": "heldout"}}
    environment = small_trial["environment"] | {"reward_fraction": 0.05}
    trial = TrialConfig("ppo@x", **(small_trial | {"environment": environment}), changes=changes)
    check_trial(trial, "here")
    check_trial(TrialConfig("ppo@x", **small_trial, reward="heldout", changes=changes), "here")
    less = TrialConfig("ppo@x", **small_trial, reward="heldout")
    with pytest.raises(ValueError, match=r"withholds 0 of .* --set reward_fraction=0\.05 makes"):
        check_trial(replace(less, changes={"environment": {"reward": "gate"}}), "here")


def test_unknown_variants_are_refused(small_trial: dict[str, Any]) -> None:
    trial, variants = TrialConfig("all", **small_trial), parse_variants(VARIANTS, "here.yml")
    with pytest.raises(ValueError, match=r"here\.yml: unknown 'ppo@bandt'; did you mean 'ppo@ban"):
        ComparisonConfig(("all", "ppo@bandt"), (0,), trial, variants, "here.yml")
    with pytest.raises(ValueError, match="ppo@x is a variant: say by --variants"):
        ComparisonConfig(("ppo@x",), (0,), trial)
    with pytest.raises(ValueError, match="ppo@x: a variant needs changes of ppo"):
        run_trial(replace(trial, agent="ppo@x"))
    common = replace(trial, environment={"gama": 1})
    with pytest.raises(ValueError, match=r"^keyword: unknown 'gama'"):
        check_trial(replace(common, agent="ppo@x", changes={"algorithm": {"gamma": 1}}), "here")


def test_programs_take_variants(tmp_path: Path) -> None:
    path, out = tmp_path / "mine.yml", tmp_path / "out"
    path.write_text(VARIANTS)
    settings = ["--dataset", SMALL, "--set", "rank=8", "--set", "teacher_rank=8", "--batch", "64"]
    common = [*settings, "--epochs", "1", "--variants", path, "--out", out]
    for name, arguments, says in (
        ("compare.py", ["--agents", "all,ppo@bandti"], f"error: {path}: unknown 'ppo@bandti'"),
        ("train.py", ["--agent", "ppo@bandti"], f"error: {path}: unknown 'ppo@bandti'"),
    ):
        done = program(name, *arguments, *common)
        assert done.returncode == 2
        assert done.stderr.startswith(says)
        assert len(done.stderr.splitlines()) == 1
        assert not out.exists()
    done = program("train.py", "--agent", "ppo@bandit", *common)
    assert done.returncode == 0, done.stderr
    assert done.stdout.startswith("ppo@bandit seed 0: best epoch 1")
    result = json.loads((out / "result.json").read_text("utf-8"))
    assert result["result"]["hyperparameters"]["algorithm"]["gamma"] == 0.5
    assert result["config"]["changes"]["policy"] == {"net_arch": [8]}
