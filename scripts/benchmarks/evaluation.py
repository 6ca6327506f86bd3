"""Filtered ranking of the test triples beside PyKEEN's evaluator, on the same tables."""

from __future__ import annotations

import math
from collections.abc import Callable
from typing import Any

import torch

from graphs import MultimodalGraph
from students.complex import ComplEx
from students.evaluation import evaluate_ranking

from . import peers
from .measuring import Settings, Target, interleaved, ratio, say, seconds
from .subjects import SPREAD

BATCH = 512
# Relative: the MRR may differ by what the last bit of a score does to the order of two entities.
AGREEMENT = 1e-3


def copy_tables(ours: ComplEx, theirs: Any) -> None:
    """Give PyKEEN's ComplEx the tables of ours.

    PyKEEN keeps real and imaginary parts in turns, and relation `r` and its inverse side by side.
    """

    def in_turns(table: torch.Tensor) -> torch.Tensor:
        real, imaginary = table.detach().chunk(2, dim=1)
        return torch.stack([real, imaginary], dim=2).flatten(1)

    relations = in_turns(ours.relation_table).view(2, ours.num_relations, -1)
    entities = in_turns(ours.entity_table)
    own = {len(entities): entities, 2 * ours.num_relations: relations.transpose(0, 1).flatten(0, 1)}
    tables = [theirs.entity_representations[0], theirs.relation_representations[0]]
    for representation, table in zip(tables, own.values(), strict=True):
        (weight,) = representation.parameters()
        weight.data.copy_(table)


def measure(graph: MultimodalGraph, settings: Settings) -> tuple[dict[str, Any], list[Target]]:
    """Both evaluators on the same scores.

    Raises:
        ValueError: the two do not agree on the MRR.
    """
    peers.require()
    from pykeen.evaluation import RankBasedEvaluator

    generator = torch.Generator().manual_seed(settings.seed)
    sizes = graph.num_entities, graph.num_relations, settings.rank
    ours = ComplEx(*sizes, generator=generator, init_scale=SPREAD).requires_grad_(False)
    theirs = peers.model("ComplEx", peers.factory(graph), settings.rank, settings.seed)
    copy_tables(ours, theirs)
    splits = {name: torch.from_numpy(rows.copy()) for name, rows in graph.triples.items()}
    found: dict[str, float] = {}

    def we() -> None:
        # Anew each time: the filter is part of the work, as it is for PyKEEN.
        graph.__dict__.pop("known_answers", None)
        found["ours"] = evaluate_ranking(ours, graph, "test", BATCH)["mrr"]

    def they() -> None:
        results = RankBasedEvaluator(filtered=True).evaluate(
            theirs,
            mapped_triples=splits["test"],
            additional_filter_triples=[splits["train"], splits["valid"]],
            batch_size=BATCH,
            use_tqdm=False,
        )
        found["PyKEEN"] = results.get_metric("both.realistic.inverse_harmonic_mean_rank")

    say("evaluation: warming up")
    we()
    they()
    if not math.isclose(found["ours"], found["PyKEEN"], rel_tol=AGREEMENT):
        raise ValueError(f"the evaluators disagree: MRR {found['ours']} and {found['PyKEEN']}")
    contenders: dict[str, Callable[[], float]] = {
        "ours": lambda: seconds(we),
        "PyKEEN": lambda: seconds(they),
    }
    times = interleaved(contenders, settings.repetitions, "evaluation")
    speed = ratio(times["PyKEEN"], times["ours"])
    section = {
        "graph": graph.name,
        "test_triples": len(graph.triples["test"]),
        "seconds": times,
        "mrr": found,
        "ratio": speed,
    }
    return section, [Target("filtered evaluation, speed / PyKEEN's", speed, 5.0, False)]
