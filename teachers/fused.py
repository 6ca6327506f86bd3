"""The fused teacher: all modalities at once, mixed by an adaptive gate per entity."""

from __future__ import annotations

import torch
from torch import Tensor, nn

from graphs import MultimodalGraph
from students.complex import ComplExScorer
from students.scorer import normal_table


class Fused(ComplExScorer):
    """ComplEx over `Σ_m softmax_m(gate_m(e))·v_m(e)`, structure included (ours).

    The gate is a learned logit per (entity, part), so an entity leans on the part that explains
    its triples; parts that an entity lacks are left out of its softmax, so it is *known* to lack
    them.

    Args:
        graph: gives the sizes and the features.
        rank: complex dimensions.
        generator: the only source of randomness.

    Attributes:
        parts: `structure` and the modalities in sorted order: columns of `gates()`.
    """

    missing: Tensor

    def __init__(self, graph: MultimodalGraph, rank: int, generator: torch.Generator) -> None:
        super().__init__()
        self.num_entities = graph.num_entities
        self.num_relations = graph.num_relations
        modalities = sorted(graph.modalities)
        self.parts = ("structure", *modalities)
        width = 2 * rank
        self.structure = normal_table(graph.num_entities, width, 1e-3, generator)
        self.projections = nn.ParameterDict()
        missing = torch.zeros(graph.num_entities, len(self.parts), dtype=torch.bool)
        for column, name in enumerate(modalities, start=1):
            modality = graph.modalities[name]
            features = torch.from_numpy(modality.features.copy())
            features = features / features.square().mean().sqrt().clamp_min(1e-12)
            self.register_buffer(f"features_{name}", features, persistent=False)
            rows = torch.from_numpy(modality.entities.copy())
            self.register_buffer(f"rows_{name}", rows, persistent=False)
            self.projections[name] = normal_table(modality.width, width, 1e-3, generator)
            missing[:, column] = torch.from_numpy(~modality.presence(graph.num_entities))
        self.register_buffer("missing", missing, persistent=False)
        self.gate_logits = nn.Parameter(torch.zeros(graph.num_entities, len(self.parts)))
        self.relation_table = normal_table(2 * graph.num_relations, width, 1e-3, generator)

    def gates(self) -> Tensor:
        """Share of each part in each entity's vector, `[entities, parts]`, rows sum to one."""
        return self.gate_logits.masked_fill(self.missing, -torch.inf).softmax(dim=1)

    def entity_vectors(self) -> Tensor:
        """Gated mixture of the parts, `[entities, 2·rank]`."""
        gates = self.gates()
        mixture = gates[:, :1] * self.structure
        for column, name in enumerate(self.parts[1:], start=1):
            rows = self.get_buffer(f"rows_{name}")
            projected = self.get_buffer(f"features_{name}") @ self.projections[name]
            share = gates[:, column].index_select(0, rows)
            mixture = mixture.index_add(0, rows, share[:, None] * projected)
        return mixture
