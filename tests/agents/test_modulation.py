"""The study of gradient modulation: what it trains, keeps and prints."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from agents.modulation import ModulatedTeacher, render_modulations, run_modulated
from agents.statistics import paired_difference
from graphs import load_graph
from students.evaluation import evaluate_ranking
from teachers.modulation import Modulation, discrepancy
from teachers.pretraining import PretrainingConfig, pretrain
from tests.agents.conftest import SMALL

CONFIG = PretrainingConfig(rank=4, max_epochs=4, evaluate_every=2)


def test_a_run_is_the_teacher_that_the_settings_name(tmp_path: Path) -> None:
    """Whose MRR it reports; and one curve for every epoch."""
    result = run_modulated(ModulatedTeacher("own:0.5", SMALL, "fused", CONFIG), tmp_path)
    graph = load_graph(SMALL)
    scorer = pretrain(graph, "fused", replace(CONFIG, modulation=Modulation("own", 0.5)))
    for split in ("valid", "test"):
        expected = evaluate_ranking(scorer, graph, split)["mrr"]
        assert result[split] == pytest.approx(expected)
    assert result["discrepancy"] == pytest.approx(discrepancy(list(result["competences"].values())))
    events = EventAccumulator(str(tmp_path / "tensorboard")).Reload()
    logged = [event.value for event in events.Scalars("teacher/discrepancy")]
    assert logged == pytest.approx(result["curve"], rel=1e-5)
    assert len(logged) == result["epochs"] == 4


def test_the_table_pairs_by_seed() -> None:
    results = []
    for form, gap, mrr in (("none", 1.0, 0.3), ("own", 0.4, 0.31)):
        for seed, noise in enumerate((0.0, 0.01, 0.03)):
            values = {
                "discrepancy": gap + noise,
                "valid": mrr,
                "test": mrr + noise**2 * (form == "own"),
            }
            results.append({"form": form, "seed": seed, "competences": {"text": 0.1}, **values})
    page = render_modulations(results)
    assert "**-0.600 [-0.600, -0.600]**" in page
    by_seed = [
        {r["seed"]: 100 * r["test"] for r in results if r["form"] == f} for f in ("own", "none")
    ]
    mean, interval = paired_difference(*by_seed)
    assert interval is not None
    assert f"{mean:+.2f} [{interval[0]:+.2f}, {interval[1]:+.2f}]" in page
    assert f"1.013 ± {4.303 * np.std([0, 0.01, 0.03], ddof=1) / 3**0.5:.3f}" in page


@pytest.mark.parametrize("form", ["mpst", "own:much", "none:1", "mspt:-1"])
def test_bad_forms_are_named(form: str) -> None:
    with pytest.raises(ValueError, match=f"forms: '{form}'"):
        _ = ModulatedTeacher(form).modulation
