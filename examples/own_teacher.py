"""Your own teacher: one class and one line.

    python examples/own_teacher.py

A teacher is a `Scorer`: anything that scores all entities for a query. One with parameters is pre-
trained with the others; one without, like this, is asked as it is. Prints how well it answers by
itself, and what students learn with it in the place of the modalities' teachers, and without any.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from agents.trial import run_trial
from agents.trial_config import TrialConfig
from graphs import MultimodalGraph, load_graph
from students.evaluation import evaluate_ranking
from students.scorer import Scorer
from teachers.registry import TEACHERS


class Popular(Scorer):
    """Scores entities by how often they occur in training triples."""

    def __init__(self, graph: MultimodalGraph, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.num_entities, self.num_relations = graph.num_entities, graph.num_relations
        popularity = torch.tensor(graph.degrees, dtype=torch.float32).log1p()
        self.register_buffer("popularity", popularity[:, None])

    def entity_vectors(self) -> Tensor:
        """`[E, 1]`, whose product with the query's vector is the score."""
        return self.popularity

    def query_vectors(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """`[batch, 1]`: whatever is asked, the same."""
        return torch.ones(len(entities), 1)

    def factor_moduli(
        self, table: Tensor, entities: Tensor, relations: Tensor, answers: Tensor
    ) -> list[Tensor]:
        """What is regularised: there is nothing to learn, and so nothing."""
        return []

    def summary(self, table: Tensor, entities: Tensor, relations: Tensor) -> Tensor:
        """Columns of the state that only a student has, `[batch, 3]`."""
        return torch.zeros(len(entities), 3)


TEACHERS["popular"] = Popular


def main(
    dataset: str = "emoji", epochs: int = 6, batch: int = 512, **settings: Any
) -> dict[str, Any]:
    """Train two students, print and return their results; `settings` are of the environment."""
    graph = load_graph(dataset)
    alone = evaluate_ranking(Popular(graph, 1, torch.Generator()), graph, "test")["mrr"]
    print(f"popular by itself:               test MRR {alone:.4f}")
    results = {}
    for agent, words in (("none", "taught by nobody"), ("all", "taught by popular, structure")):
        teachers = ("popular", "structure")
        trial = TrialConfig(agent, 0, dataset, teachers, epochs, batch, settings)
        results[agent] = run_trial(trial)
        print(f"{words:<32} test MRR {results[agent]['test']['mrr']:.4f}")
    return results


if __name__ == "__main__":
    main()
