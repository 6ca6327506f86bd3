"""Gradient modulation against MSPT's formulas by hand."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from dsom_env.config import DSoMConfig
from graphs import Modality, MultimodalGraph
from students.training import Trainer, TrainingConfig
from teachers.fused import Fused
from teachers.modulation import Competence, Modulation, Modulator, discrepancy, factors, ratios
from teachers.pretraining import PretrainingConfig, pretrain, teacher_key
from teachers.registry import make_teacher


@pytest.fixture
def graph(small_graph: MultimodalGraph) -> MultimodalGraph:
    """A third of the entities lack images."""
    image = small_graph.modalities["image"]
    keep = image.entities % 3 > 0
    part = Modality(image.entities[keep], image.features[keep])
    return replace(small_graph, modalities={**small_graph.modalities, "image": part})


def teacher(graph: MultimodalGraph, name: str = "fused") -> Fused:
    """One that has learned for a while, from texts twice as much, so that these are ahead."""
    scorer = make_teacher(name, graph, 4, torch.Generator().manual_seed(0))
    assert isinstance(scorer, Fused)
    trainer, queries = Trainer(scorer, graph), graph.queries("train")
    for _ in range(20):
        trainer.update(trainer.forward(queries))
    with torch.no_grad():
        scorer.projections["text"].mul_(2)
    return scorer


def test_two_modalities_as_mspt_has_them() -> None:
    image, text = 0.3, 0.2
    rho = ratios(torch.tensor([image, text]))
    assert rho.tolist() == pytest.approx([image / text, text / image])
    found = factors(rho, Modulation("mspt", 0.2)).tolist()
    assert found == pytest.approx([1 - math.tanh(0.2 * image / text), 1.0])
    assert factors(rho, Modulation("own", 0.2)).tolist() == pytest.approx([1.5**-0.2, 1.0])
    assert factors(rho, Modulation(None)).tolist() == [1.0, 1.0]


def test_more_modalities_are_compared_with_the_mean_of_the_others() -> None:
    rho = ratios(torch.tensor([0.6, 0.2, 0.1]))
    assert rho.tolist() == pytest.approx([0.6 / 0.15, 0.2 / 0.35, 0.1 / 0.4])
    assert ratios(torch.tensor([0.1, 0.0])).isfinite().all()


def test_discrepancy_is_the_log_of_the_widest_gap() -> None:
    assert discrepancy([0.2, 0.1, 0.4]) == pytest.approx(math.log(4))
    assert discrepancy([0.1, 0.1]) == 0.0
    assert discrepancy([0.1, 0.0]) == math.inf


def competence_by_hand(scorer: Fused, graph: MultimodalGraph, rows: np.ndarray) -> dict[str, float]:
    """One modality at a time, one query at a time, in complex numbers."""
    common = sorted(
        set.intersection(*(set(m.entities.tolist()) for m in graph.modalities.values()))
    )
    state = {key: value.double().numpy() for key, value in scorer.state_dict().items()}
    half = state["relation_table"].shape[1] // 2

    def as_complex(vector: np.ndarray) -> np.ndarray:
        return vector[..., :half] + 1j * vector[..., half:]

    queries = graph.queries("train")[rows]
    found = {}
    for name, modality in graph.modalities.items():
        features = modality.features.astype(np.float64)
        features /= np.sqrt((features**2).mean())
        table = as_complex(features @ state[f"projections.{name}"])
        vectors = dict(zip(modality.entities.tolist(), table, strict=True))
        relations = as_complex(state["relation_table"])
        probabilities = []
        for e, r, a in zip(queries.entities, queries.relations, queries.answers, strict=True):
            if e in common and a in common:
                scores = [
                    (vectors[e] * relations[r] * vectors[t].conj()).sum().real for t in common
                ]
                exponentials = np.exp(np.array(scores) - max(scores))
                probabilities.append(exponentials[common.index(a)] / exponentials.sum())
        found[name] = float(np.mean(probabilities))
    return found


@pytest.mark.parametrize("name", ["fused", "attentive"])
def test_competence_by_brute_force(name: str, graph: MultimodalGraph) -> None:
    scorer, rows = teacher(graph, name), np.arange(0, 60, 2)
    trainer = Trainer(scorer, graph)
    competence = Competence(graph)
    means, queries = competence(scorer, trainer.forward(graph.queries("train")[rows]))
    expected = competence_by_hand(scorer, graph, rows)
    assert 0 < queries < len(rows)
    found = dict(zip(competence.names, means.tolist(), strict=True))
    assert found == pytest.approx(expected, rel=1e-3)
    assert expected["text"] != pytest.approx(expected["image"], rel=0.01)


def gradients(scorer: Fused) -> dict[str, torch.Tensor]:
    return {k: v.grad.clone() for k, v in scorer.named_parameters() if v.grad is not None}


def test_mspt_scales_the_dominant_gradient_and_adds_noise(graph: MultimodalGraph) -> None:
    """Factor by hand from competences by hand; noise from its spread over many coordinates."""
    scorer, rows, alpha = teacher(graph), np.arange(200), 0.3
    trainer = Trainer(scorer, graph)
    forward = trainer.forward(graph.queries("train")[rows])
    trainer.pull_back(forward)
    before = gradients(scorer)
    hook = Modulator(graph, Modulation("mspt", alpha), seed=0)
    hook.before_step(trainer, forward)
    after = gradients(scorer)
    s = competence_by_hand(scorer, graph, rows)
    scaling = {"text": 1 - math.tanh(alpha * s["text"] / s["image"]), "image": 1.0}
    for name, factor in scaling.items():
        key = f"projections.{name}"
        noise = (after[key] - factor * before[key]) / before[key].std()
        # Standard normal: of n coordinates the mean is 0 ± 1/√n and the spread 1 ± 1/√(2n).
        count = noise.numel()
        assert abs(float(noise.mean())) < 4 / math.sqrt(count)
        assert abs(float(noise.std()) - 1) < 4 / math.sqrt(2 * count)
    for key in before.keys() - {f"projections.{name}" for name in scaling}:
        assert torch.equal(before[key], after[key])


def test_own_form_shortens_the_dominant_step_and_nothing_else(graph: MultimodalGraph) -> None:
    """Which a factor on the gradient would not: Adagrad's first step is as long whatever it is."""
    steps = {}
    for form in (None, "own"):
        scorer, rows = teacher(graph), np.arange(200)
        start = {key: value.detach().clone() for key, value in scorer.named_parameters()}
        hook = Modulator(graph, Modulation(form, 0.5), seed=0)  # type: ignore[arg-type]
        trainer = Trainer(scorer, graph, TrainingConfig(0.1, 0.01), hooks=[hook])
        trainer.update(trainer.forward(graph.queries("train")[rows]))
        steps[form] = {k: v.detach() - start[k] for k, v in scorer.named_parameters()}
    s = competence_by_hand(teacher(graph), graph, rows)
    expected = (s["text"] / s["image"]) ** -0.5
    assert expected < 0.95
    for key, step in steps["own"].items():
        factor = expected if key == "projections.text" else 1.0
        torch.testing.assert_close(step, factor * steps[None][key], rtol=1e-3, atol=1e-5)


def test_measuring_alone_changes_nothing(graph: MultimodalGraph) -> None:
    config = PretrainingConfig(rank=4, max_epochs=2, evaluate_every=1)
    modulator = Modulator(graph, Modulation(None), 0)
    measured = pretrain(graph, "fused", config, modulator=modulator)
    for key, value in pretrain(graph, "fused", config).state_dict().items():
        assert torch.equal(value, measured.state_dict()[key])
    assert len(modulator.discrepancies) == 2
    for number, competences in zip(modulator.discrepancies, modulator.competences, strict=True):
        values = list(competences.values())
        assert number == pytest.approx(abs(math.log(values[0] / values[1])))


@pytest.mark.parametrize("form", ["own", "mspt"])
def test_modulated_teachers_are_others_and_logged(form: str, graph: MultimodalGraph) -> None:
    plain = PretrainingConfig(rank=4, max_epochs=2, evaluate_every=1)
    config = replace(plain, modulation=Modulation(form))  # type: ignore[arg-type]
    assert DSoMConfig(teacher_modulation=form).pretraining.modulation == config.modulation
    said: list[str] = []
    one = pretrain(graph, "fused", config, report=said.append)
    assert all("discrepancy" in line for line in said)
    other = pretrain(graph, "fused", plain)
    assert not torch.equal(one.projections["text"], other.projections["text"])  # type: ignore[union-attr, index, operator]
    keys = {n: [teacher_key(graph, n, c, 1, 0) for c in (plain, config)] for n in ("fused", "text")}
    assert keys["fused"][0] != keys["fused"][1]
    assert keys["text"][0] == keys["text"][1], "who fuses nothing is the same teacher"


def test_bad_settings_are_named(small_graph: MultimodalGraph) -> None:
    with pytest.raises(ValueError, match="did you mean 'mspt'"):
        DSoMConfig(teacher_modulation="mpst")
    with pytest.raises(ValueError, match="teacher_modulation_alpha"):
        DSoMConfig(teacher_modulation_alpha=-1)
    with pytest.raises(ValueError, match="alpha"):
        Modulation("own", -1)
    with pytest.raises(ValueError, match="modulation must be"):
        Modulation("other")  # type: ignore[arg-type]
    one = {"text": small_graph.modalities["text"]}
    with pytest.raises(ValueError, match="has 1 modalities, expected at least two"):
        Competence(replace(small_graph, modalities=one))
    text = small_graph.modalities["text"]
    apart = {
        "text": Modality(text.entities[:9], text.features[:9]),
        "image": Modality(text.entities[9:], text.features[9:]),
    }
    with pytest.raises(ValueError, match="0 entities"):
        Competence(replace(small_graph, modalities=apart))
