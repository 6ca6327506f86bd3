"""The explorer's data: a sample of valid queries, and what everybody answered to them."""

from __future__ import annotations

import base64
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from PIL import Image

from agents.answers import answers_of, sample_valid
from agents.report.explorer import FORMAT
from graphs import MultimodalGraph, Queries
from students.scorer import Scorer

LONGEST_TEXT = 280
FACTS = 6
# Pictures are what is large: so many, and so many pixels a side, are well below a megabyte.
PICTURES = 1000
PICTURE_SIZE = 32
_SHEET_COLUMNS = 32


class _Mentioned:
    """Entities by the order in which they are first mentioned: the page has only these."""

    def __init__(self) -> None:
        self._places: dict[int, int] = {}

    def __getitem__(self, entity: int) -> int:
        return self._places.setdefault(int(entity), len(self._places))

    def entities(self) -> list[int]:
        return list(self._places)


@dataclass(frozen=True)
class Explorer:
    """What is the same for all agents: the queries, and the teachers' answers.

    Attributes:
        graph: of the comparison.
        queries: sampled ones of valid.
        teachers: per teacher what `answers_of` says.
    """

    graph: MultimodalGraph
    queries: Queries
    teachers: Mapping[str, Mapping[str, Any]]

    @classmethod
    def of(cls, graph: MultimodalGraph, teachers: Mapping[str, Scorer]) -> Explorer:
        """Sample the queries and ask the teachers."""
        queries = sample_valid(graph)
        answers = {name: answers_of(model, graph, queries) for name, model in teachers.items()}
        return cls(graph, queries, answers)

    def document(self, records: Mapping[str, Mapping[str, Any]]) -> dict[str, Any]:
        """All that the page shows, as JSON types (docs/report.md).

        Args:
            records: per agent the record of one of its trials, as `trial_answers` made it.
        """
        graph, queries = self.graph, self.queries
        mentioned, count = _Mentioned(), graph.num_relations
        asked = [
            [mentioned[entity], relation % count, int(relation >= count), answer]
            for entity, relation, answer in zip(
                queries.entities.tolist(),
                queries.relations.tolist(),
                queries.answers.tolist(),
                strict=True,
            )
        ]
        own = mentioned.entities()
        for row in asked:
            row[3] = mentioned[row[3]]
        keys = graph.query_keys(queries.entities, queries.relations)
        others = graph.evaluation_filter("valid").counts(keys) - 1
        teachers = [
            {"name": name, **_named(answers, mentioned)} for name, answers in self.teachers.items()
        ]
        before, agents = _students(records, mentioned)
        about = [_about(graph, entity, mentioned) for entity in own]
        entities = mentioned.entities()
        types = graph.metadata.get("entity_types")
        return {
            "format": FORMAT,
            "valid": 2 * len(graph.triples["valid"]),
            "relations": list(graph.relation_labels),
            "queries": [[*row, other] for row, other in zip(asked, others.tolist(), strict=True)],
            "names": [graph.entity_labels[entity] for entity in entities],
            "types": [types[entity] for entity in entities] if types else None,
            "about": about,
            "pictures": _pictures(graph, entities),
            "teachers": teachers,
            "before": before,
            "agents": agents,
        }


def _named(answers: Mapping[str, Any], mentioned: _Mentioned) -> dict[str, Any]:
    """Answers with the page's numbers of entities; pairs lie back to back."""
    top = [[v for e, share in pairs for v in (mentioned[e], share)] for pairs in answers["top"]]
    return {"ranks": answers["ranks"], "top": top}


def _students(
    records: Mapping[str, Mapping[str, Any]], mentioned: _Mentioned
) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Untrained students, each once, and what they became.

    Agents of a seed share their student's initial weights, unless a variant has another student.
    """
    before: list[dict[str, Any]] = []
    agents = []
    for name, record in records.items():
        untrained = {"seed": record["seed"], **_named(record["before"], mentioned)}
        if untrained not in before:
            before.append(untrained)
        agents.append(
            {
                "name": name,
                "seed": record["seed"],
                "kind": record["kind"],
                "teachers": record["teachers"],
                "chosen": record["chosen"],
                "before": before.index(untrained),
                **_named(record["after"], mentioned),
            }
        )
    return before, agents


def _about(graph: MultimodalGraph, entity: int, mentioned: _Mentioned) -> dict[str, Any]:
    """What the graph says of an entity: its text, and some of its training triples."""
    text = graph.entity_texts[entity] if graph.entity_texts is not None else None
    if text and len(text) > LONGEST_TEXT:
        text = text[: LONGEST_TEXT - 1] + "…"
    heads, relations, tails = graph.triples["train"].T
    touching = np.flatnonzero((heads == entity) | (tails == entity))
    # Every relation has its turn: the first six keywords would say less.
    kinds = relations[touching] + graph.num_relations * (heads[touching] != entity)
    turns = np.array([np.count_nonzero(kinds[:i] == kind) for i, kind in enumerate(kinds)])
    facts = []
    for row in touching[np.lexsort((np.arange(len(touching)), turns))][:FACTS].tolist():
        inverse = int(heads[row] != entity)
        other = heads[row] if inverse else tails[row]
        facts.append([int(relations[row]), inverse, mentioned[other]])
    return {"text": text, "facts": facts, "triples": len(touching)}


def _pictures(graph: MultimodalGraph, entities: Sequence[int]) -> dict[str, Any] | None:
    """One picture with those of the entities side by side, the first-mentioned ones first."""
    if graph.thumbnails is None or graph.thumbnail_entities is None:
        return None
    rows = {entity: row for row, entity in enumerate(graph.thumbnail_entities.tolist())}
    pictured = [place for place, entity in enumerate(entities) if entity in rows][:PICTURES]
    if not pictured:
        return None
    size, columns = PICTURE_SIZE, min(_SHEET_COLUMNS, len(pictured))
    lines = -(-len(pictured) // columns)
    sheet = Image.new("RGB", (size * columns, size * lines), "white")
    for number, place in enumerate(pictured):
        picture = Image.fromarray(graph.thumbnails[rows[entities[place]]])
        if picture.size != (size, size):
            picture = picture.resize((size, size), Image.Resampling.LANCZOS)
        sheet.paste(picture, (size * (number % columns), size * (number // columns)))
    file = io.BytesIO()
    sheet.save(file, "PNG", optimize=True)
    return {
        "size": size,
        "columns": columns,
        "lines": lines,
        "of": pictured,
        "png": base64.b64encode(file.getvalue()).decode("ascii"),
    }
