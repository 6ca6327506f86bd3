"""The fused teachers: all modalities at once, each entity leaning on those that explain it."""

from __future__ import annotations

import math
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from graphs import MultimodalGraph
from students.complex import ComplExScorer
from students.scorer import entity_owners, normal_table, relation_owners
from teachers.split import scaled_features

# (positions among the entities that were asked for, vectors): what one part says of whom.
Part = tuple[Tensor, Tensor]


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
        self.scales: dict[str, float] = {}
        missing = torch.zeros(graph.num_entities, len(self.parts), dtype=torch.bool)
        for column, name in enumerate(modalities, start=1):
            modality = graph.modalities[name]
            features, self.scales[name] = scaled_features(modality)
            self.register_buffer(f"features_{name}", features, persistent=False)
            rows = torch.from_numpy(modality.entities.copy())
            self.register_buffer(f"rows_{name}", rows, persistent=False)
            self.projections[name] = normal_table(modality.width, width, 1e-3, generator)
            missing[:, column] = torch.from_numpy(~modality.presence(graph.num_entities))
        self.register_buffer("missing", missing, persistent=False)
        self._make_gates(width, generator)
        self.relation_table = normal_table(2 * graph.num_relations, width, 1e-3, generator)

    def _make_gates(self, width: int, generator: torch.Generator) -> None:
        self.gate_logits = nn.Parameter(torch.zeros(self.num_entities, len(self.parts)))

    def _gate_logits(self, entities: Tensor | None, parts: Mapping[str, Part]) -> Tensor:
        """Logits of the gates, `[entities, parts]`; `parts` are the vectors that they belong to."""
        return self.gate_logits if entities is None else self.gate_logits[entities]

    def part(self, name: str, entities: Tensor | None = None) -> Part:
        """What one part says of entities, before any gate.

        Args:
            name: of `parts`.
            entities: int64 `[n]`, distinct and ascending; None for all.

        Returns:
            Positions, int64 `[m]`, of those of the entities that have the part, and their vectors,
            `[m, 2·rank]`.
        """
        if name == "structure":
            vectors = self.structure if entities is None else self.structure[entities]
            return torch.arange(len(vectors), device=vectors.device), vectors
        rows = self.get_buffer(f"rows_{name}")
        features = self.get_buffer(f"features_{name}")
        if entities is None:
            return rows, features @ self.projections[name]
        places = torch.searchsorted(rows, entities)
        has = (~self.missing[entities, self.parts.index(name)]).nonzero()[:, 0]
        return has, features[places[has]] @ self.projections[name]

    def gates(self, entities: Tensor | None = None) -> Tensor:
        """Share of each part in the entities' vectors, `[entities, parts]`, rows sum to one.

        Args:
            entities: int64 `[n]`, distinct and ascending; None for all.
        """
        return self._gates(entities, self._parts(entities))

    def _parts(self, entities: Tensor | None) -> dict[str, Part]:
        return {name: self.part(name, entities) for name in self.parts}

    def _gates(self, entities: Tensor | None, parts: Mapping[str, Part]) -> Tensor:
        missing = self.missing if entities is None else self.missing[entities]
        logits = self._gate_logits(entities, parts)
        return logits.masked_fill(missing, -torch.inf).softmax(dim=1)

    def entity_vectors(self) -> Tensor:
        """Gated mixture of the parts, `[entities, 2·rank]`."""
        parts = self._parts(None)
        gates = self._gates(None, parts)
        mixture = gates[:, :1] * self.structure
        for column, name in enumerate(self.parts[1:], start=1):
            rows, projected = parts[name]
            share = gates[:, column].index_select(0, rows)
            mixture = mixture.index_add(0, rows, share[:, None] * projected)
        return mixture

    def encoder(self, modality: str) -> list[nn.Parameter]:
        """The parameters that are one modality's alone."""
        return [self.projections[modality]]

    def row_owners(self) -> dict[str, Tensor]:
        """Structure and gates by entity; projections are everybody's."""
        return {
            "structure": entity_owners(self.num_entities),
            "gate_logits": entity_owners(self.num_entities),
            "relation_table": relation_owners(self.num_relations),
        }

    def feature_scales(self) -> dict[str, float]:
        """Of every modality."""
        return {f"projections.{name}": scale for name, scale in self.scales.items()}


class Attentive(Fused):
    """`Fused` whose gates are attention, and so follow from content (ours).

    `A(e) = softmax_m(⟨s(e)·Q, v_m(e)·K_m⟩/√d)` over the parts `m` that the entity has: what it
    is in the graph, `s(e)`, asks, and what each part says of it answers (scaled dot products,
    Vaswani et al. 2017). `Fused` has a free logit per entity and part instead, about which nothing
    can be said of an entity that has just arrived, and which nothing but its own triples moves.

    Attributes:
        asking: `Q`, `[2·rank, d]`, `d = rank`.
        keys: `K_m` by part, `[2·rank, d]` each.
    """

    def _make_gates(self, width: int, generator: torch.Generator) -> None:
        inner = width // 2
        scale = 1 / math.sqrt(width)
        self.asking = normal_table(width, inner, scale, generator)
        self.keys = nn.ParameterDict(
            {name: normal_table(width, inner, scale, generator) for name in self.parts}
        )

    def _gate_logits(self, entities: Tensor | None, parts: Mapping[str, Part]) -> Tensor:
        asked = parts["structure"][1] @ self.asking
        columns = []
        for name in self.parts:
            rows, vectors = parts[name]
            found = (asked.index_select(0, rows) * (vectors @ self.keys[name])).sum(1)
            # Entities without the part are left out of the softmax.
            columns.append(asked.new_zeros(len(asked)).index_add(0, rows, found))
        return torch.stack(columns, dim=1) / math.sqrt(self.asking.shape[1])

    def encoder(self, modality: str) -> list[nn.Parameter]:
        """Projection and key of one modality."""
        return [self.projections[modality], self.keys[modality]]

    def row_owners(self) -> dict[str, Tensor]:
        """Structure by entity; attention is everybody's."""
        owners = super().row_owners()
        del owners["gate_logits"]
        return owners
