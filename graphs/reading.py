"""What a reader of a folder is told, and where it leaves what users should hear."""

from __future__ import annotations

from dataclasses import dataclass, field


@dataclass
class Reading:
    """One reading of a folder.

    Attributes:
        name: what the graph is to be called, unless the folder says otherwise.
        coverage: least share of the entities that features found outside `modalities/` must
            cover to become a modality.
        notes: sentences that become warnings of the graph.
    """

    name: str
    coverage: float = 0.01
    notes: list[str] = field(default_factory=list)
