"""Rewards against computations by hand, and the traps that they must not fall into."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import gymnasium as gym
import numpy as np
import pytest
import torch
from torch.nn import functional as F

import dsom_env as _registration  # noqa: F401
from dsom_env.config import BUILT_IN_REWARDS, BUILT_IN_STUDENTS, FROZEN_REWARDS
from dsom_env.rewards import REWARDS, Mixture, Reward
from students.losses import distillation_loss
from students.registry import STUDENTS
from teachers.pretraining import load_teachers

SMALL: dict[str, Any] = {
    "dataset": "planted:entities=160,relations=4,blocks=2,tails_per_head=3",
    "teacher_rank": 8,
    "rank": 8,
    "horizon": 8,
    # Each reward as it is, by those who teach and with everything in sight.
    "bonus": 0.0,
    "judged_folds": None,
    "hide": (),
}


def make(num_envs: int, **kwargs: Any) -> Any:
    return gym.make_vec("DSoM-v0", num_envs=num_envs, **(SMALL | kwargs))


def test_built_in_names_are_the_registries() -> None:
    assert set(BUILT_IN_REWARDS) == set(REWARDS)
    assert set(BUILT_IN_STUDENTS) == set(STUDENTS)


def test_the_page_has_every_reward_once() -> None:
    page = (Path(__file__).parents[2] / "docs" / "rewards.md").read_text("utf-8")
    rows = [line.split("`")[1] for line in page.splitlines() if line.startswith("| `")]
    assert rows == list(REWARDS)


@pytest.mark.parametrize("reward", BUILT_IN_REWARDS)
def test_choosing_nobody_does_not_top_the_table(reward: str) -> None:
    """A reward of the form −loss would be maximised by the empty mask."""
    totals = {}
    for name in ("none", "all", "random"):
        env = make(64, reward=reward)
        env.reset(seed=0)
        rng = np.random.default_rng(0)
        totals[name] = 0.0
        for _ in range(24):
            masks = {
                "none": np.zeros((64, 4), dtype=np.int8),
                "all": np.ones((64, 4), dtype=np.int8),
                "random": rng.integers(0, 2, (64, 4), dtype=np.int8),
            }[name]
            totals[name] += env.step(masks)[1].sum()
    assert totals["none"] < max(totals["all"], totals["random"])


def cross_entropies(scorer: Any, info: dict[str, Any]) -> torch.Tensor:
    """Plain cross-entropy of the queries in `info` under `scorer`."""
    ids = [torch.from_numpy(info[name]) for name in ("entity", "relation", "answer")]
    with torch.no_grad():
        return F.cross_entropy(scorer(ids[0], ids[1]), ids[2], reduction="none")


@pytest.mark.parametrize("only_beneficial", [True, False])
def test_improvement_with_control_rows(only_beneficial: bool) -> None:
    env = make(32, reward="improvement", only_beneficial=only_beneficial)
    _, queries = env.reset(seed=0)
    scorer = env.unwrapped.classroom.trainer.scorer
    masks = np.random.default_rng(0).integers(0, 2, (32, 4), dtype=np.int8)
    before = cross_entropies(scorer, queries)
    _, rewards, _, _, info = env.step(masks)
    gain = (before - cross_entropies(scorer, queries)).numpy()
    assert info["control"].sum() == 2
    assert not info["executed_mask"][info["control"]].any()
    np.testing.assert_array_equal(info["executed_mask"][~info["control"]], masks[~info["control"]])
    taught = info["executed_mask"].any(1)
    expected = np.where(taught, gain - gain[~taught].mean(), 0.0)
    expected = np.maximum(expected, 0.0) if only_beneficial else expected
    np.testing.assert_allclose(rewards, expected, atol=1e-5)
    np.testing.assert_allclose(info["student_cross_entropy"], before.numpy(), atol=1e-5)


def test_improvement_of_one_row_is_against_its_own_fork() -> None:
    env = make(1, reward="improvement", only_beneficial=False)
    _, query = env.reset(seed=0)
    trainer = env.unwrapped.classroom.trainer
    twin = trainer.fork()
    ids = env.unwrapped.lessons.lesson.queries
    twin.update(twin.forward(ids))
    _, rewards, *_ = env.step(np.ones((1, 4), dtype=np.int8))
    expected = cross_entropies(twin.scorer, query) - cross_entropies(trainer.scorer, query)
    np.testing.assert_allclose(rewards, expected.numpy(), atol=1e-5)


def test_gate_is_the_gap_to_the_dense_mean() -> None:
    env = make(16, reward="gate", top_k=None)
    _, queries = env.reset(seed=0)
    classroom = env.unwrapped.classroom
    opinions = classroom.store.opinions(env.unwrapped.lessons.lesson.rows)
    dense = opinions.log_probs.reshape(16, -1, 4)
    masks = np.random.default_rng(1).integers(0, 2, (16, 4))
    answers = torch.from_numpy(queries["answer"])
    student = -cross_entropies(classroom.trainer.scorer, queries)
    _, rewards, *_ = env.step(masks)
    for row, mask in enumerate(masks):
        expected = 0.0
        if mask.any():
            mean = dense[row][:, mask.astype(bool)].mean(1).log_softmax(0)
            expected = max(float(mean[answers[row]] - student[row]), 0.0)
        assert rewards[row] == pytest.approx(expected, abs=2e-3)


def dense_filtered(logits: torch.Tensor, query: tuple[int, int, int], graph: Any) -> float:
    """Log-probability of the answer among what is no other known answer, by a list of them."""
    entity, relation, answer = query
    half = graph.num_relations
    known = set(map(tuple, graph.triples["train"].tolist()))
    triples = [
        (entity, relation, t) if relation < half else (t, relation - half, entity)
        for t in range(graph.num_entities)
    ]
    kept = [t for t, triple in enumerate(triples) if t == answer or triple not in known]
    return float(logits[kept].log_softmax(0)[kept.index(answer)])


@pytest.mark.parametrize("combination", ["log_probs", "per_teacher"])
@pytest.mark.parametrize("reward", ["filtered_gate", "filtered_log_score"])
def test_filtered_rewards_are_of_filtered_probabilities(reward: str, combination: str) -> None:
    env = make(16, reward=reward, combination=combination, top_k=8)
    env.reset(seed=0)
    for _ in range(4):
        env.step(np.ones((16, 4), dtype=np.int8))
    classroom, lesson = env.unwrapped.classroom, env.unwrapped.lessons.lesson
    queries = lesson.queries
    masks = np.random.default_rng(1).integers(0, 2, (16, 4))
    labels = classroom.soft_labels(lesson, masks.astype(np.float32))
    dense = [(label.weight, label.dense().log()) for label in labels]
    with torch.no_grad():
        logits = classroom.trainer.scorer(
            torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        )
    _, rewards, *_ = env.step(masks)
    several = 0
    for row in range(16):
        query = tuple(int(v[row]) for v in (queries.entities, queries.relations, queries.answers))
        student = dense_filtered(logits[row], query, env.unwrapped.graph)
        values = [
            (float(weight[row]), dense_filtered(values[row], query, env.unwrapped.graph))
            for weight, values in dense
            if weight[row] > 0
        ]
        if reward == "filtered_gate":
            expected = max(sum(weight * (value - student) for weight, value in values), 0.0)
        else:
            expected = sum(weight * (1 + value / np.log(160)) for weight, value in values)
        assert rewards[row] == pytest.approx(expected, abs=2e-3)
        several += bool(rewards[row] > 0)
    assert several > 4


@pytest.mark.parametrize("combination", ["log_probs", "per_teacher"])
@pytest.mark.parametrize("reward", ["gate", "filtered_gate", "log_score", "filtered_log_score"])
def test_rewards_see_the_tempered_label(reward: str, combination: str) -> None:
    """Whoever judges: cross-fitted answers, dense, to the power of one over the tempering."""
    settings = {"action_mode": "tempered", "combination": combination, "judged_folds": 3}
    env = make(16, reward=reward, **settings)
    env.reset(seed=0)
    classroom, lesson = env.unwrapped.classroom, env.unwrapped.lessons.lesson
    rng = np.random.default_rng(1)
    weights = rng.uniform(0.1, 1, (16, 4)).astype(np.float32)
    exponents = rng.uniform(-1, 1, (16, 1)).astype(np.float32)
    labels = lesson.judged.soft_labels(torch.from_numpy(weights), combination)
    queries = lesson.queries
    with torch.no_grad():
        logits = classroom.trainer.scorer(
            torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
        )
    _, rewards, *_ = env.step(np.concatenate([2 * weights - 1, exponents], axis=1))

    def log_p(values: torch.Tensor, row: int) -> float:
        query = tuple(int(v[row]) for v in (queries.entities, queries.relations, queries.answers))
        if reward.startswith("filtered"):
            return dense_filtered(values, query, env.unwrapped.graph)
        return float(values.log_softmax(0)[query[2]])

    for row in range(16):
        expected = 0.0
        for label in labels:
            said = log_p(label.dense()[row].double().log() / 4.0 ** float(exponents[row, 0]), row)
            if reward.endswith("gate"):
                price = said - log_p(logits[row].double(), row)
            else:
                price = 1 + said / np.log(160)
            expected += float(label.weight[row]) * price
        expected = max(expected, 0.0 if reward.endswith("gate") else -np.inf)
        assert rewards[row] == pytest.approx(expected, abs=1e-4)
    assert (np.abs(rewards) > 1e-3).any()


@pytest.mark.parametrize("combination", ["log_probs", "per_teacher"])
def test_the_gain_is_the_score_beyond_that_of_all_teachers(combination: str) -> None:
    """In nats, row by row; so the best choice stays the best, and all teachers earn nothing."""
    masks = np.random.default_rng(1).integers(0, 2, (16, 4))
    masks[0], masks[1] = 0, 1
    paid = {}
    for reward in ("filtered_log_score", "filtered_log_gain"):
        for chosen in (masks, np.ones_like(masks)):
            settings = {"combination": combination, "bonus": 0.0, "judged_folds": 3}
            env = make(16, reward=reward, **settings)
            env.reset(seed=0)
            paid[reward, chosen is masks] = env.step(chosen)[1]
    score, of_all = (paid["filtered_log_score", chosen] for chosen in (True, False))
    gain = paid["filtered_log_gain", True]
    np.testing.assert_allclose(gain, (score - of_all) * np.log(160), atol=1e-5)
    np.testing.assert_allclose(paid["filtered_log_gain", False], 0.0, atol=1e-6)
    assert gain[1] == 0.0
    assert gain.std() < (score * np.log(160)).std()


@pytest.mark.parametrize("reward", FROZEN_REWARDS)
def test_a_frozen_student_costs_these_rewards_nothing(reward: str) -> None:
    """At the first step, where the student that learns has not learned yet."""
    masks = np.random.default_rng(1).integers(0, 2, (16, 4))
    paid = []
    for cotrain in (True, False):
        env = make(16, reward=reward, cotrain=cotrain, judged_folds=3)
        env.reset(seed=0)
        paid.append(env.step(masks)[1])
    np.testing.assert_array_equal(*paid)
    assert np.ptp(paid[0]) > 0


def test_advantage_sees_the_tempered_labels() -> None:
    """Divergences from the sharpened teachers, each apart, by dense softmaxes."""
    env = make(16, reward="advantage", action_mode="tempered", temperature=1.0, gamma=0.0)
    env.reset(seed=0)
    lesson = env.unwrapped.lessons.lesson
    exponents = np.random.default_rng(2).uniform(-1, 1, (16, 1)).astype(np.float32)
    labels = lesson.opinions.soft_labels(torch.ones(16, 4), "per_teacher")
    _, rewards, *_ = env.step(np.concatenate([np.ones((16, 4), np.float32), exponents], axis=1))
    ids = [torch.from_numpy(v) for v in (lesson.queries.entities, lesson.queries.relations)]
    answers = torch.from_numpy(lesson.queries.answers)
    with torch.no_grad():
        student = env.unwrapped.classroom.trainer.scorer(*ids).double().log_softmax(1)
    factor = 4.0 ** torch.from_numpy(exponents).double()
    score = student[torch.arange(16), answers]
    for label in labels:
        teacher = (label.dense().double().log() / factor).log_softmax(1)
        score = score - (teacher.exp() * (teacher - student)).sum(1) / 4
    expected = ((score - score.mean()) / score.std(correction=0)).clamp(0, 1)
    np.testing.assert_allclose(rewards, expected.numpy(), atol=1e-4)


class Scripted(Reward):
    """Pays what it is told."""

    def __init__(self, values: list[list[float]]) -> None:
        self.values = iter(values)

    def after_update(self, lesson: Any, weights: Any, report: Any, ends: Any) -> Any:
        return np.array(next(self.values))


def test_a_mixture_weighs_its_parts_by_their_spread() -> None:
    """By hand: the mean square so far, forgotten by 5 % a step and freed of its start at zero."""
    mixture = Mixture(
        SimpleNamespace(),
        [Scripted([[0.0, 2.0], [1.0, 1.0]]), Scripted([[30.0, 40.0], [0.0, 0.0]])],
    )
    lesson: Any = SimpleNamespace(rows=np.arange(2))
    first = mixture.after_update(lesson, None, None, None)
    np.testing.assert_allclose(
        first, [30 / np.sqrt(1250), 2 / np.sqrt(2) + 40 / np.sqrt(1250)], rtol=1e-6
    )
    mean = (0.95 * 0.05 * 2 + 0.05 * 1) / (0.95 * 0.05 + 0.05)
    second = mixture.after_update(lesson, None, None, None)
    np.testing.assert_allclose(second, 1 / np.sqrt(mean), rtol=1e-6)


def test_a_mixture_by_name_is_of_those_rewards() -> None:
    env = make(32, reward="gate+improvement")
    env.reset(seed=0)
    mixture = env.unwrapped.lessons.reward
    assert [type(part) for part in mixture.parts] == [REWARDS["gate"], REWARDS["improvement"]]
    control = env.step(np.ones((32, 4), dtype=np.int8))[4]["control"]
    assert control.sum() == 2, "one of them needs control rows"
    with pytest.raises(ValueError, match=r"reward.*improvment.*improvement"):
        make(4, reward="gate+improvment")


def test_the_log_score_is_of_the_dense_label() -> None:
    env = make(8, reward="log_score")
    env.reset(seed=0)
    reward, lesson = env.unwrapped.lessons.reward, env.unwrapped.lessons.lesson
    _, rewards, *_ = env.step(np.zeros((8, 4), dtype=np.int8))
    assert not rewards.any(), "nobody knows nothing"
    alone = np.tile(np.float32([0, 1, 0, 0]), (8, 1))
    scores = reward.after_update(lesson, alone, None, None)
    (label,) = lesson.judged.soft_labels(torch.from_numpy(alone))
    dense = label.dense().double().numpy()
    answers = lesson.queries.answers
    expected = 1 + np.log(dense[np.arange(8), answers]) / np.log(160)
    np.testing.assert_allclose(scores, expected, atol=1e-5)


@pytest.mark.parametrize("cotrain", [True, False])
def test_the_bonus_is_paid_for_every_teacher_that_taught(cotrain: bool) -> None:
    weights = np.random.default_rng(0).uniform(-1, 1, (32, 4)).astype(np.float32)
    paid = []
    for bonus in (0.0, 0.25):
        reward = "improvement" if cotrain else None
        env = make(32, reward=reward, bonus=bonus, cotrain=cotrain, action_mode="weights")
        env.reset(seed=0)
        _, rewards, _, _, info = env.step(weights)
        paid.append(rewards)
    assert info["control"].any() == cotrain
    expected = 0.25 * info["executed_mask"].sum(axis=1, dtype=np.float64)
    np.testing.assert_allclose(paid[1] - paid[0], expected, atol=1e-6)


@pytest.mark.parametrize(("kind", "step"), [("heldout", 1e-4), ("heldout_adagrad", 1e-6)])
def test_heldout_is_the_slope_of_the_heldout_loss(kind: str, step: float) -> None:
    """Following only the distillation gradient of one row changes the held-out loss by −η·r.

    With Adagrad, following it over √Σg².
    """
    env = make(4, reward=kind, only_beneficial=False, temperature=1.0, gamma=3.0)
    env.reset(seed=0)
    for _ in range(5):
        env.step(np.ones((4, 4), dtype=np.int8))
    classroom, reward = env.unwrapped.classroom, env.unwrapped.lessons.reward
    trainer, lesson = classroom.trainer, env.unwrapped.lessons.lesson
    heldout = classroom.withheld_queries(64)
    classroom.withheld_queries = lambda count: heldout
    weights = np.ones((4, 4), dtype=np.float32)
    labels = classroom.soft_labels(lesson, weights)
    reward.before_update(lesson, labels)
    promised = reward.after_update(lesson, weights, None, False)
    roots = [torch.ones(()).double() for _ in trainer.scorer.parameters()]
    if kind == "heldout_adagrad":
        sums = [trainer.optimiser.state[p]["sum"].double() for p in trainer.scorer.parameters()]
        roots = [torch.where(total > 0, total.sqrt(), 1.0) for total in sums]

    def heldout_loss(twin: Any) -> float:
        forward = twin.forward(heldout)
        return float(F.cross_entropy(forward.logits.detach(), forward.answers))

    for row in range(4):
        twin = trainer.fork()
        twin.scorer.double()
        start = heldout_loss(twin)
        forward = twin.forward(lesson.queries)
        _, divergence = distillation_loss(
            twin.scorer(forward.entities, forward.relations),
            forward.answers,
            labels,
            twin.neighbor_lists(lesson.queries),
            twin.distillation,
        )
        parameters = list(twin.scorer.parameters())
        gradients = torch.autograd.grad(3.0 * divergence[row], parameters)
        with torch.no_grad():
            for parameter, gradient, root in zip(parameters, gradients, roots, strict=True):
                parameter -= step * gradient / root
        fall = (start - heldout_loss(twin)) / step
        assert fall == pytest.approx(promised[row], rel=0.05, abs=1e-4)


def test_validation_pays_the_change_of_mrr_at_the_end() -> None:
    env = make(8, reward="validation", horizon=3, only_beneficial=False)
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    start = classroom.withheld_mrr()
    masks = np.ones((8, 4), dtype=np.int8)
    assert not env.step(masks)[1].any()
    assert not env.step(masks)[1].any()
    _, rewards, ended, *_ = env.step(masks)
    assert ended.all()
    np.testing.assert_allclose(rewards, 100 * (classroom.withheld_mrr() - start))


def count_evaluations(classroom: Any, monkeypatch: pytest.MonkeyPatch) -> list[float]:
    seen: list[float] = []
    original = classroom.withheld_mrr

    def counted() -> float:
        seen.append(original())
        return seen[-1]

    monkeypatch.setattr(classroom, "withheld_mrr", counted)
    return seen


def test_validation_evaluates_once_per_episode(monkeypatch: pytest.MonkeyPatch) -> None:
    env = make(8, reward="validation", horizon=2, only_beneficial=False)
    env.reset(seed=0)
    seen = count_evaluations(env.unwrapped.classroom, monkeypatch)
    masks = np.ones((8, 4), dtype=np.int8)
    rewards = [env.step(masks)[1] for _ in range(6)]
    assert len(seen) == 3
    np.testing.assert_allclose(rewards[3], 100 * (seen[1] - seen[0]))
    np.testing.assert_allclose(rewards[5], 100 * (seen[2] - seen[1]))
    env.reset()
    assert len(seen) == 3, "nothing was learned since the last evaluation"
    env.reset(seed=1)
    assert len(seen) == 4, "another student"


def test_validation_pays_each_sub_environment_for_its_own_episode() -> None:
    """One of two episodes is restarted after a step, and so begins and ends a step later."""
    settings = {"horizon": 2, "only_beneficial": False, "autoreset_mode": "disabled"}
    env = make(2, reward="validation", **settings)
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    masks = np.ones((2, 4), dtype=np.int8)
    mrrs = [classroom.withheld_mrr()]
    assert not env.step(masks)[1].any()
    mrrs.append(classroom.withheld_mrr())
    env.reset(options={"reset_mask": np.array([False, True])})
    _, rewards, ended, *_ = env.step(masks)
    mrrs.append(classroom.withheld_mrr())
    assert ended.tolist() == [True, False]
    np.testing.assert_allclose(rewards, [100 * (mrrs[2] - mrrs[0]), 0.0])
    env.reset(options={"reset_mask": np.array([True, False])})
    _, rewards, ended, *_ = env.step(masks)
    mrrs.append(classroom.withheld_mrr())
    assert ended.tolist() == [False, True]
    np.testing.assert_allclose(rewards, [0.0, 100 * (mrrs[3] - mrrs[1])])
    assert len(set(mrrs)) == 4


def test_validation_of_sub_environments_that_reset_in_a_step_of_their_own() -> None:
    env = make(2, reward="validation", horizon=2, only_beneficial=False, autoreset_mode="next_step")
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    masks = np.ones((2, 4), dtype=np.int8)
    env.step(masks)
    env.reset(options={"reset_mask": np.array([False, True])})
    env.step(masks)  # the first ends
    _, rewards, ended, *_ = env.step(masks)  # the first is reset, the second ends
    assert ended.tolist() == [False, True]
    assert rewards[0] == 0
    start = classroom.withheld_mrr()
    env.step(masks)  # the first acts, the second is reset
    _, rewards, ended, *_ = env.step(masks)
    assert ended.tolist() == [True, False]
    assert rewards[0] == pytest.approx(100 * (classroom.withheld_mrr() - start))


def test_advantage_by_its_formula() -> None:
    env = make(16, reward="advantage", temperature=1.0, top_k=None)
    _, queries = env.reset(seed=0)
    classroom = env.unwrapped.classroom
    opinions = classroom.store.opinions(env.unwrapped.lessons.lesson.rows)
    teachers = opinions.log_probs.reshape(16, -1, 4).double()
    masks = np.random.default_rng(2).integers(0, 2, (16, 4))
    _, rewards, *_ = env.step(masks)
    ids = [torch.from_numpy(queries[name]) for name in ("entity", "relation", "answer")]
    with torch.no_grad():
        student = classroom.trainer.scorer(ids[0], ids[1]).double().log_softmax(1)
    divergence = (teachers.exp() * (teachers - student[:, :, None])).sum(1)
    share = torch.from_numpy(masks / np.maximum(masks.sum(1, keepdims=True), 1))
    score = student[torch.arange(16), ids[2]] - (share * divergence).sum(1)
    normal = ((score - score.mean()) / score.std(correction=0)).clamp(0, 1)
    expected = np.where(masks.any(1), normal.numpy(), 0.0)
    np.testing.assert_allclose(rewards, expected, atol=5e-3)


def test_withheld_triples_are_never_taught() -> None:
    env = make(32, reward="heldout", reward_fraction=0.2)
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    half = len(classroom.graph.triples["train"])
    withheld = {
        tuple(row)
        for row in classroom.graph.triples["train"][
            classroom.withheld_rows[: len(classroom.withheld_rows) // 2]
        ].tolist()
    }
    assert len(withheld) == round(0.2 * half)
    relations = classroom.graph.num_relations
    for _ in range(2 * half // 32 + 1):
        info = env.step(np.ones((32, 4), dtype=np.int8))[4]
        for e, r, a in zip(info["entity"], info["relation"], info["answer"], strict=True):
            triple = (e, r, a) if r < relations else (a, r - relations, e)
            assert triple not in withheld


def test_judged_by_strangers_taught_by_acquaintances() -> None:
    """Shown and paid as with a cross-fitted store, taught as with an in-sample one, to the bit."""
    masks = np.random.default_rng(4).integers(0, 2, (32, 4))
    seen, paid, table = [], [], []
    for arguments in ({"judged_folds": 3}, {"folds": 3}, {}):
        env = make(32, reward="gate", **arguments)
        seen.append(env.reset(seed=0)[0])
        paid.append(env.step(masks)[1])
        scorer = env.unwrapped.classroom.trainer.scorer
        table.append(torch.cat([p.detach().flatten() for p in scorer.parameters()]))
    np.testing.assert_array_equal(seen[0], seen[1])
    np.testing.assert_array_equal(paid[0], paid[1])
    assert torch.equal(table[0], table[2])
    assert not torch.equal(table[0], table[1])
    assert (seen[0] != seen[2]).any()


def test_teachers_do_not_know_the_reward_split() -> None:
    """They are those of the graph without it, and each query has its own answers."""
    env = make(16, reward="heldout", reward_fraction=0.2, top_k=None, teachers=["text", "image"])
    env.reset(seed=0)
    classroom = env.unwrapped.classroom
    whole = set(map(tuple, classroom.graph.triples["train"].tolist()))
    taught = set(map(tuple, classroom.taught_graph.triples["train"].tolist()))
    half = len(classroom.withheld_rows) // 2
    withheld = classroom.graph.triples["train"][classroom.withheld_rows[:half]]
    assert taught == whole - set(map(tuple, withheld.tolist()))
    rows = classroom.taught_rows[[3, 40, -1]]
    queries = classroom.queries[rows]
    opinions = classroom.opinions(rows)
    models = load_teachers(classroom.taught_graph, ("text", "image"), classroom.config.pretraining)
    for k, name in enumerate(("text", "image")):
        with torch.no_grad():
            logits = models[name][0](
                torch.from_numpy(queries.entities), torch.from_numpy(queries.relations)
            )
        said = opinions.log_probs[:, k].reshape(3, -1)
        torch.testing.assert_close(said, logits.log_softmax(1), atol=2e-2, rtol=2e-3)
