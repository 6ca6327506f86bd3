"""The Senior against dense formulas, its ablations, and scales with a known optimum."""

from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from torch.nn import functional as F

from agents.senior import Senior, candidates_of, contrast, mixed_cross_entropy
from agents.trial import run_trial
from agents.trial_config import TrialConfig
from agents.variants import check_trial, parse_variants
from students.distillation import Candidates
from teachers.store import Opinions
from tests.agents.conftest import make_env

ENTITIES, TEACHERS = 30, 3


def nobody(mask: Any, epochs: int) -> float:
    raise AssertionError("no probes")


def prepared(env: Any, **arguments: Any) -> Senior:
    senior = Senior(**arguments)
    senior.budget = 10
    senior.prepare(env.classroom, nobody)
    return senior


def dense(env: Any) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Teachers' logarithms `[batch, E, M]`, the student's logits, and who is a candidate."""
    lesson, count = env.lessons.lesson, env.graph.num_entities
    opinions = lesson.opinions
    assert len(opinions.rows) == len(lesson.rows) * count
    said = opinions.log_probs.reshape(len(lesson.rows), count, -1)
    mask = torch.zeros(len(lesson.rows), count, dtype=torch.bool)
    mask[tuple(candidates_of(lesson))] = True
    return said, lesson.forward.logits[lesson.forward.row_of], mask


@pytest.mark.parametrize("candidates", [10, None])
def test_the_soft_label_is_the_formula(candidates: int | None) -> None:
    """`softmax_C(Σ_k ω_k·exp(ρ_rk)·z^k)`, entity by entity, at scales that are not one."""
    env = make_env(top_k=None, candidates=candidates, random_candidates=8)
    lesson = env.lessons.lesson
    senior = prepared(env, attention=0.7)
    generator = torch.Generator().manual_seed(0)
    senior.log_scales.data = 0.5 * torch.randn(senior.log_scales.shape, generator=generator)
    scales = senior.log_scales.detach()[lesson.forward.relations].exp()
    said, student, mask = dense(env)
    assert mask.all() == (candidates is None)
    gaps = []
    own = student.masked_fill(~mask, -torch.inf).log_softmax(1)
    for k in range(said.shape[2]):
        teacher = (said[:, :, k] * scales[:, k : k + 1]).masked_fill(~mask, -torch.inf)
        teacher = teacher.log_softmax(1)
        gaps.append(torch.where(mask, teacher.exp() * (teacher - own), 0.0).sum(1))
    attention = (-0.7 * torch.stack(gaps, 1)).softmax(1)
    assert (attention.max(1).values - attention.min(1).values).max() > 0.2
    mixed = (said * (attention * scales)[:, None]).sum(2).masked_fill(~mask, -torch.inf)
    expected = mixed.softmax(1)

    weights, tempering = senior.decide(env.classroom, lesson, np.random.default_rng(0))
    assert tempering is not None
    np.testing.assert_allclose(weights.max(1), 1.0)
    tempered = SimpleNamespace(**{**vars(lesson), "tempering": torch.from_numpy(tempering)})
    (label,) = type(lesson).soft_labels(
        tempered, lesson.opinions, torch.from_numpy(weights), "log_probs"
    )
    torch.testing.assert_close(label.dense(), expected, rtol=2e-3, atol=1e-5)


def test_attention_falls_to_equal_shares_over_the_budget() -> None:
    env = make_env(candidates=10)
    lesson, rng = env.lessons.lesson, np.random.default_rng(0)
    senior = prepared(env, scaling=False, attention=2.0, decay=0.5)
    spreads, sharpness = [], []
    for _ in range(8):
        sharpness.append(senior.sharpness)
        weights, tempering = senior.decide(env.classroom, lesson, rng)
        assert tempering is None
        spreads.append(float((1 - weights.min(1)).mean()))
    np.testing.assert_allclose(sharpness, [2.0, 1.6, 1.2, 0.8, 0.4, 0, 0, 0], atol=1e-9)
    assert spreads == sorted(spreads, reverse=True)
    assert spreads[0] > 0.3
    assert spreads[5:] == [0, 0, 0]


def test_the_teacher_that_says_what_the_student_says_is_heard_most() -> None:
    """Contrast is 0 for the student's own distribution, whatever was added to its logits."""
    env = make_env(candidates=10)
    lesson = env.lessons.lesson
    rows, entities = lesson.candidates
    own = lesson.forward.logits[lesson.forward.row_of[rows], entities]
    said = torch.stack([own + 3, 2 * own, -own], 1)
    opinions = Opinions(rows, entities, said, torch.zeros(len(lesson.rows), 3), 160)
    alike = SimpleNamespace(**{**vars(lesson), "opinions": opinions})
    scales = torch.ones(len(lesson.rows), 3)
    found = contrast(alike, scales, lesson.candidates)  # type: ignore[arg-type]
    np.testing.assert_allclose(found[:, 0], 0, atol=1e-5)
    assert (found[:, 1:] > 1e-4).float().mean() > 0.9
    scales[:, 1] = 0.5
    found = contrast(alike, scales, lesson.candidates)  # type: ignore[arg-type]
    np.testing.assert_allclose(found[:, 1], 0, atol=1e-5)


def fake_lesson(seed: int, relations: torch.Tensor) -> Any:
    """Teachers of which the first draws the answers, at half the sharpness; the others guess."""
    generator = torch.Generator().manual_seed(seed)
    batch = len(relations)
    logits = torch.randn(batch, ENTITIES, TEACHERS, generator=generator)
    truth = (2 * logits[:, :, 0]).softmax(1)
    answers = torch.multinomial(truth, 1, generator=generator)[:, 0]
    rows = torch.arange(batch).repeat_interleave(ENTITIES)
    entities = torch.arange(ENTITIES).repeat(batch)
    opinions = Opinions(
        rows, entities, logits.log_softmax(1).reshape(-1, TEACHERS), torch.zeros(batch, 3), ENTITIES
    )
    forward = SimpleNamespace(answers=answers, relations=relations)
    return SimpleNamespace(
        rows=np.arange(batch),
        opinions=opinions,
        judged=opinions,
        forward=forward,
        candidates=Candidates(rows, entities),
    )


def test_scales_learn_who_knows_what_and_how_sharply() -> None:
    """The exponents that explain the answers best are two for the first and nothing for others.

    Of relations that do not occur they stay as they were.
    """
    classroom: Any = SimpleNamespace(
        config=SimpleNamespace(combination="log_probs"),
        graph=SimpleNamespace(num_relations=1),
        teachers=("knows", "guesses", "too"),
        device=torch.device("cpu"),
    )
    senior = Senior(attention=0.0, scaling_rate=0.3)
    senior.prepare(classroom, nobody)
    for step in range(80):
        lesson = fake_lesson(step, torch.zeros(256, dtype=torch.int64))
        senior.decide(classroom, lesson, np.random.default_rng(0))
    exponents = senior.log_scales.detach().exp() / TEACHERS
    assert exponents[0, 0] == pytest.approx(2.0, rel=0.15)
    assert (exponents[0, 1:] < 0.12).all()
    assert torch.equal(senior.log_scales[1], torch.zeros(TEACHERS))
    kept = senior.log_scales.detach().clone()
    senior.masks(classroom, lesson, np.random.default_rng(0))
    assert torch.equal(senior.log_scales, kept)


def test_the_loss_of_the_scales_is_a_cross_entropy() -> None:
    lesson = fake_lesson(0, torch.zeros(16, dtype=torch.int64))
    exponents = torch.rand(16, TEACHERS, generator=torch.Generator().manual_seed(1))
    said = lesson.judged.log_probs.reshape(16, ENTITIES, TEACHERS)
    expected = F.cross_entropy(
        (said * exponents[:, None]).sum(2), lesson.forward.answers, reduction="none"
    )
    found = mixed_cross_entropy(lesson, exponents, lesson.candidates)
    torch.testing.assert_close(found, expected)


VARIANTS = """
senior@no-scaling: {algorithm: {scaling: false}}
senior@no-attention: {algorithm: {attention: 0}}
senior@plain: {algorithm: {scaling: false, attention: 0}}
senior@no-top-k: {environment: {candidates: null}}
senior@slow: {algorithm: {scalling: 1}}
senior@wrong: {algorithm: {attention: -1}}
"""


def test_ablations_are_variants_and_the_barest_is_all(small_trial: dict[str, Any]) -> None:
    """Without scaling and attention every teacher is heard alike: the same bits as `all`."""
    variants = parse_variants(VARIANTS, "file")
    environment = small_trial["environment"] | {"candidates": 16, "random_candidates": 16}
    found = {}
    for agent in ("all", "senior", *list(variants)[:4]):
        config = TrialConfig(
            agent,
            **(small_trial | {"environment": environment}),
            changes=variants.get(agent, {}),
        )
        check_trial(config, "file")
        found[agent] = run_trial(config)
    assert found["senior@plain"]["valid"] == found["all"]["valid"]
    assert found["senior@plain"]["curves"] == found["all"]["curves"]
    losses = [tuple(run["curves"]["train_loss"]) for run in found.values()]
    assert len(set(losses)) == len(losses) - 1
    epochs = {name: run["selection"]["epochs"] for name, run in found.items()}
    tempered = {name for name, content in epochs.items() if "tempering" in content}
    # Whoever chose how sharp soft labels are is judged apart.
    assert tempered == {"senior", "senior@no-attention", "senior@no-top-k"}


@pytest.mark.parametrize(
    ("agent", "words"),
    [
        ("senior@slow", "algorithm: unknown 'scalling'; did you mean 'scaling'"),
        ("senior@wrong", "attention must be a number ≥ 0, got -1"),
    ],
)
def test_bad_arguments_are_refused_before_training(
    small_trial: dict[str, Any], agent: str, words: str
) -> None:
    variants = parse_variants(VARIANTS, "file")
    with pytest.raises(ValueError, match=words):
        check_trial(TrialConfig(agent, **small_trial, changes=variants[agent]), "file")


def test_means_of_probabilities_cannot_be_scaled() -> None:
    env = make_env(combination="probs")
    with pytest.raises(ValueError, match="needs combination='log_probs', got 'probs'"):
        prepared(env)
