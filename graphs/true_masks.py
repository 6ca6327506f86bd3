"""The right masks of a planted graph, against which choices are measured."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from graphs.csr import IntArray
from graphs.graph import MultimodalGraph


@dataclass(frozen=True)
class TrueMasks:
    """The right masks of a planted graph, as far as they say anything of given teachers.

    Only teachers that see one modality are right or wrong on a relation. `structure` sees none,
    and `fused` sees the competent and the misleading ones at once: no mask is right or wrong for
    having them, so they are not scored. Nor does the truth know of single entities: where one is
    `missing` the competent modality, its teacher can tell nothing, and is still the right one.

    Attributes:
        scored: int64 `[n]`, positions among the teachers of those that see one modality.
        by_relation: bool `[2R, n]`, which of these are competent on a (reciprocal) relation.
    """

    scored: IntArray
    by_relation: NDArray[np.bool_]

    def wrong_bits(self, relations: IntArray, masks: NDArray[np.bool_]) -> NDArray[np.float64]:
        """Share of the scored teachers that are chosen and misleading, or competent and left out.

        Args:
            relations: int64 `[queries]`.
            masks: bool `[queries, teachers]`.

        Returns:
            float64 `[queries]`, 0 for the true mask.
        """
        wrong: NDArray[np.float64] = (masks[:, self.scored] != self.by_relation[relations]).mean(1)
        return wrong

    def jaccard_distance(
        self, relations: IntArray, masks: NDArray[np.bool_]
    ) -> NDArray[np.float64]:
        """One minus the scored teachers in both masks over those in either; 0 where there is none.

        Args:
            relations: int64 `[queries]`.
            masks: bool `[queries, teachers]`.

        Returns:
            float64 `[queries]`.
        """
        chosen, right = masks[:, self.scored], self.by_relation[relations]
        either = (chosen | right).sum(1)
        both = (chosen & right).sum(1)
        return np.where(either > 0, 1.0 - both / np.maximum(either, 1), 0.0)


def true_masks(graph: MultimodalGraph, teachers: Sequence[str]) -> TrueMasks | None:
    """The right masks of `teachers`; None where nothing was planted, or none sees one modality.

    Args:
        graph: any graph.
        teachers: names, in the order of the masks.
    """
    if graph.planted_mask is None:
        return None
    modalities = sorted(graph.modalities)
    scored = [position for position, name in enumerate(teachers) if name in modalities]
    if not scored:
        return None
    columns = [modalities.index(teachers[position]) for position in scored]
    return TrueMasks(np.array(scored, dtype=np.int64), graph.planted_mask[:, columns])
