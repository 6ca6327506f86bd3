"""What papers print for a graph: the figures that stand beside ours in `docs/results.md`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

FORMAT = 1
METRICS = {"mrr": "MRR", "hits@1": "Hits@1", "hits@3": "Hits@3", "hits@10": "Hits@10"}
_FIGURE_KEYS = {"model", "source", "mark", "multimodal", *METRICS}


@dataclass(frozen=True)
class Figure:
    """What one paper prints.

    Attributes:
        model: its name.
        source: where it was published.
        mark: how sure we are of the figures, see `Published.marks`.
        multimodal: whether it looks at more than triples.
        values: metrics in percent; those that are known.
    """

    model: str
    source: str
    mark: str
    multimodal: bool
    values: Mapping[str, float]


@dataclass(frozen=True)
class PublishedGraph:
    """A graph as the papers have it.

    Attributes:
        train_triples: of the published split.
        test_triples: of the published split; figures on another test split do not compare.
        published_valid: what is wrong with the published valid split, or nothing.
        figures: what papers print.
    """

    train_triples: int
    test_triples: int
    published_valid: str
    figures: tuple[Figure, ...]

    def best(self, metric: str, multimodal: bool) -> Figure | None:
        """The multimodal (or unimodal) figure with the highest `metric`; None where none is known.

        Args:
            metric: one of `METRICS`.
            multimodal: which kind.
        """
        known = [f for f in self.figures if f.multimodal is multimodal and metric in f.values]
        return max(known, key=lambda figure: figure.values[metric], default=None)


@dataclass(frozen=True)
class Published:
    """All published figures.

    Attributes:
        marks: what each mark means.
        graphs: by name.
    """

    marks: Mapping[str, str]
    graphs: Mapping[str, PublishedGraph]

    def graph(self, name: str) -> PublishedGraph | None:
        """The graph called `name`, upper and lower case alike; None when no paper has it."""
        lower = {known.casefold(): graph for known, graph in self.graphs.items()}
        return lower.get(name.casefold())


def parse_published(document: Any) -> Published:
    """Figures from the content of `docs/published.json`.

    Raises:
        ValueError: not of this format; says where.
    """
    try:
        if document["format"] != FORMAT:
            raise ValueError(f"format {document['format']!r} is not {FORMAT}")
        marks = {str(name): str(text) for name, text in document["marks"].items()}
        graphs = {
            str(name): PublishedGraph(
                int(graph["train_triples"]),
                int(graph["test_triples"]),
                str(graph.get("published_valid", "")),
                tuple(_figure(entry, marks) for entry in graph["figures"]),
            )
            for name, graph in document["graphs"].items()
        }
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"not a table of published figures: {error!r}") from None
    return Published(marks, graphs)


def _figure(entry: Mapping[str, Any], marks: Mapping[str, str]) -> Figure:
    model = str(entry["model"])
    foreign = set(entry) - _FIGURE_KEYS
    if foreign:
        raise ValueError(f"{model}: unknown key {sorted(foreign)[0]!r}")
    if entry["mark"] not in marks:
        raise ValueError(f"{model}: the mark {entry['mark']!r} is not explained under 'marks'")
    values = {metric: float(entry[metric]) for metric in METRICS if metric in entry}
    for metric, value in values.items():
        # Fractions beside percents would make every student look better than every paper.
        if not 1 < value <= 100:
            raise ValueError(f"{model}: {metric} must be in percent, got {value!r}")
    if not isinstance(entry["multimodal"], bool):
        raise ValueError(f"{model}: multimodal must be true or false, got {entry['multimodal']!r}")
    return Figure(model, str(entry["source"]), entry["mark"], entry["multimodal"], values)
