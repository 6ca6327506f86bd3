"""Split modality teachers: ComplEx whose entity vectors come from one modality's features."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphs import Modality, MultimodalGraph
from students.complex import ComplExScorer
from students.scorer import entity_owners, normal_table, relation_owners


def scaled_features(modality: Modality) -> tuple[Tensor, float]:
    """Features `[n, width]` over their root mean square, and that number.

    Unit mean square per entry, so that one learning rate and one initial scale fit all.
    """
    features = torch.from_numpy(modality.features.copy())
    if not len(features):
        return features, 1.0
    scale = features.square().mean().sqrt().clamp_min(1e-12)
    return features / scale, float(scale)


class ModalityVectors(nn.Module):
    """Entity vectors of one modality: projected features, and a learned stand-in elsewhere.

    An entity without the modality gets a free vector of its own. A zero vector would tie all its
    scores, and optimistic ranks would then flatter the teacher (findings.md 6).

    Args:
        modality: features of the entities that have them.
        num_entities: `E`.
        width: columns of the vectors.
        generator: the only source of randomness.
    """

    features: Tensor
    order: Tensor

    def __init__(
        self, modality: Modality, num_entities: int, width: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        features, self.scale = scaled_features(modality)
        self.register_buffer("features", features, persistent=False)
        present = torch.from_numpy(modality.presence(num_entities))
        # Position of each entity in [projected rows; stand-in rows].
        order = torch.empty(num_entities, dtype=torch.int64)
        order[present] = torch.arange(int(present.sum()))
        order[~present] = torch.arange(int(present.sum()), num_entities)
        self.register_buffer("order", order, persistent=False)
        self.projection = normal_table(modality.width, width, 1e-3, generator)
        self.stand_in = normal_table(int((~present).sum()), width, 1e-3, generator)
        self.lacking = (~present).nonzero()[:, 0]

    def forward(self) -> Tensor:
        """Vectors of all entities, `[entities, width]`."""
        rows = torch.cat([self.features @ self.projection, self.stand_in])
        return rows.index_select(0, self.order)


class SplitModality(ComplExScorer):
    """One modality alone, with its own relation table (MoSE, methods.md §2, exact).

    Args:
        graph: gives the sizes and the features.
        modality: name of the modality.
        rank: complex dimensions.
        generator: the only source of randomness.
    """

    def __init__(
        self, graph: MultimodalGraph, modality: str, rank: int, generator: torch.Generator
    ) -> None:
        super().__init__()
        self.num_entities = graph.num_entities
        self.num_relations = graph.num_relations
        self.vectors = ModalityVectors(
            graph.modalities[modality], graph.num_entities, 2 * rank, generator
        )
        self.relation_table = normal_table(2 * graph.num_relations, 2 * rank, 1e-3, generator)

    def entity_vectors(self) -> Tensor:
        """Projected features, or the stand-in, `[entities, 2·rank]`."""
        vectors: Tensor = self.vectors()
        return vectors

    def row_owners(self) -> dict[str, Tensor]:
        """Stand-ins by entity; the projection is everybody's."""
        return {
            "vectors.stand_in": entity_owners(self.num_entities)[self.vectors.lacking],
            "relation_table": relation_owners(self.num_relations),
        }

    def feature_scales(self) -> dict[str, float]:
        """Of the modality."""
        return {"vectors.projection": self.vectors.scale}
