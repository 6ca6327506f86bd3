"""`docs/results.md`: comparisons on several graphs, beside what papers print."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from agents.report.outcome import LEAST_FOR_INTERVAL, AgentOutcome, Outcome
from agents.report.published import METRICS, Figure, Published, PublishedGraph
from teachers.pretraining import PretrainingConfig

NOTES = f"""\
All figures are in percent. Ranks are filtered, count both directions of every triple, and give tied
entities the mean of their ranks; how the papers treat ties is not always known. Every student is
unimodal: it sees triples only, and pictures and texts reach it through its teachers alone. It was
selected by its valid MRR, and test was read once. MRR is the interquartile mean over seeds (up to
three seeds: the mean), Hits are means; the interval is a bootstrap's over seeds, from
{LEAST_FOR_INTERVAL} seeds on (with three seeds it covers 75 %, with ten 93 %). *Head-room* is the
test MRR of the best oracle above that of the best agent that does not choose, both by valid, paired
by seed, with Student's t interval, and with Fieller's for shares of it. *Still moving* counts the
seeds whose best epoch lies in the last tenth of the budget: with more epochs they might have ended
higher. The formulas of DSoM are a reconstruction, and no figure of its paper is known to us, so
none is here."""


def render_results(outcomes: Sequence[Outcome], published: Published) -> str:
    """The page.

    Args:
        outcomes: in any order; those on one graph share a section.
        published: what papers print.
    """
    sections: dict[tuple[str, bool], list[Outcome]] = {}
    for outcome in outcomes:
        sections.setdefault((outcome.graph, outcome.published_valid), []).append(outcome)
    ordered = sorted(sections.items(), key=lambda item: (item[0][0].casefold(), item[0][1]))
    parts = [
        "# Results",
        "Printed from `results.json` files by `python scripts/results.py RUN ... --out "
        "docs/results.md`; published figures are those of [published.json](published.json).",
        NOTES,
        _overview([group for _, group in ordered], published),
    ]
    for _, group in ordered:
        parts += _section(group, published)
    return "\n\n".join(parts) + "\n"


def best_student(outcomes: Sequence[Outcome]) -> tuple[Outcome, AgentOutcome]:
    """The agent with the best valid MRR and its comparison: choosing by test would flatter it."""
    candidates = [(outcome, agent) for outcome in outcomes for agent in outcome.agents]
    return max(candidates, key=lambda candidate: candidate[1].valid_mrr)


def distances(
    test: Mapping[str, float], graph: PublishedGraph, multimodal: bool
) -> list[tuple[str, float, Figure]]:
    """(metric, ours minus the best published, that figure), for the metrics that papers print."""
    found = []
    for metric in METRICS:
        figure = graph.best(metric, multimodal)
        if figure is not None:
            found.append((metric, test[metric] - figure.values[metric], figure))
    return found


def _title(outcome: Outcome) -> str:
    return outcome.graph + (", published valid split" if outcome.published_valid else "")


def _comparable(outcome: Outcome, published: Published) -> PublishedGraph | None:
    graph = published.graph(outcome.graph)
    return graph if graph and graph.test_triples == outcome.triples["test"] else None


def _overview(groups: Sequence[Sequence[Outcome]], published: Published) -> str:
    rows = []
    for group in groups:
        (_, best), graph = best_student(group), _comparable(group[0], published)
        gaps = distances(best.test, graph, multimodal=True) if graph else []
        rows.append(
            [
                _title(group[0]),
                f"`{cell(best.agent)}`",
                str(best.seeds),
                *(f"{best.test[metric]:.2f}" for metric in ("mrr", "hits@1", "hits@10")),
                ", ".join(f"{METRICS[metric]} {gap:+.2f}" for metric, gap, _ in gaps) or "–",
            ]
        )
    header = [
        "graph",
        "student, by valid",
        "seeds",
        "test MRR",
        "Hits@1",
        "Hits@10",
        "distance to the best published multimodal",
    ]
    return table(header, rows)


def _section(group: Sequence[Outcome], published: Published) -> Iterator[str]:
    first = group[0]
    yield f"## {_title(first)}"
    yield _about(first, published.graph(first.graph))
    if len({outcome.fingerprint for outcome in group}) > 1:
        yield "The comparisons below saw different versions of this graph (features or triples)."
    graph = _comparable(first, published)
    yield _distance(group, published)
    if graph:
        yield _published_table(graph)
        marks = dict.fromkeys(figure.mark for figure in graph.figures)
        yield " ".join(f"Mark *{mark}*: {published.marks[mark]}." for mark in marks)
    for outcome in group:
        yield from _comparison(outcome)


def _about(outcome: Outcome, graph: PublishedGraph | None) -> str:
    train, valid, test = (f"{outcome.triples[s]:,}" for s in ("train", "valid", "test"))
    text = (
        f"{outcome.entities:,} entities, {outcome.relations:,} relations; {train} / {valid} / "
        f"{test} triples for train / valid / test."
    )
    if graph is None:
        return text
    if outcome.published_valid:
        return f"{text} {graph.published_valid}".strip()
    if outcome.triples["train"] < graph.train_triples:
        text += (
            f" The valid split was drawn anew from train: {train} of the published "
            f"{graph.train_triples:,} training triples are left to learn from, fewer than the "
            f"papers' models had."
        )
        if outcome.triples["test"] == graph.test_triples:
            text += " The test split is the published one."
    return text


def _distance(group: Sequence[Outcome], published: Published) -> str:
    outcome, best = best_student(group)
    seeds = "one seed" if best.seeds == 1 else f"{best.seeds} seeds"
    interval = f" [{best.interval[0]:.2f}, {best.interval[1]:.2f}]" if best.interval else ""
    partial = "" if all(one.complete for one in group) else ", partial results"
    student = (
        f"The student with the best valid MRR is `{best.agent}`'s (rank "
        f"{outcome.settings['rank']}, {outcome.epochs} epochs, {seeds}{partial}): test MRR "
        f"{best.test['mrr']:.2f}{interval}."
    )
    graph = _comparable(group[0], published)
    if graph is None:
        known = published.graph(group[0].graph)
        if known is None:
            return f"{student} No published figure of this graph is known to us."
        return (
            f"{student} The published figures are of a test split of {known.test_triples:,} "
            "triples and do not compare."
        )
    gaps = distances(best.test, graph, multimodal=True)
    words = [student]
    if gaps:
        words.append(f"Beside the best published multimodal model known to us: {_gaps(gaps)}.")
        reached = all(gap > 0 for _, gap, _ in gaps)
        words.append(
            "The goal, a unimodal student above the best of them, is "
            + ("reached." if reached else "not reached.")
        )
    unimodal = distances(best.test, graph, multimodal=False)
    if unimodal:
        words.append(f"Beside the best published unimodal one: {_gaps(unimodal)}.")
    return " ".join(words)


def _gaps(gaps: Sequence[tuple[str, float, Figure]]) -> str:
    def words(metric: str, gap: float, figure: Figure) -> str:
        side = "above" if gap > 0 else "below"
        theirs = f"{figure.model}, {figure.values[metric]:g}"
        return f"{METRICS[metric]} {abs(gap):.2f} points {side} ({theirs})"

    return "; ".join(words(*gap) for gap in gaps)


def _published_table(graph: PublishedGraph) -> str:
    shown = [m for m in METRICS if any(m in figure.values for figure in graph.figures)]
    rows = [
        [
            figure.model,
            "multimodal" if figure.multimodal else "unimodal",
            *(f"{figure.values[m]:g}" if m in figure.values else "–" for m in shown),
            figure.source,
            figure.mark,
        ]
        for figure in graph.figures
    ]
    header = ["published model", "kind", *(METRICS[m] for m in shown), "source", "mark"]
    return table(header, rows)


def _comparison(outcome: Outcome) -> Iterator[str]:
    settings = outcome.settings
    yield (
        f"### {settings['student']}, rank {settings['rank']}, {outcome.epochs} epochs of batch "
        f"{outcome.batch}" + ("" if outcome.complete else " (partial results)")
    )
    yield f"```sh\n{outcome.command}\n```"
    header = ["agent", "seeds", "valid MRR", "test MRR", "95 % interval"]
    header += ["Hits@1", "Hits@3", "Hits@10", "s per seed", "best epoch", "still moving"]
    rows = [_agent_row(agent) for agent in outcome.agents]
    if any(agent.share for agent in outcome.agents):
        header.append("of the head-room")
        rows = [[*row, a.share or "–"] for row, a in zip(rows, outcome.agents, strict=True)]
    yield table(header, rows)
    if outcome.variants:
        yield "\n".join(_variant(*variant) for variant in outcome.variants.items())
    if outcome.head_room:
        yield outcome.head_room
    searched = [a for a in outcome.agents if a.search_epochs]
    if searched:
        beyond = ", ".join(f"`{a.agent}` {a.search_epochs:g}" for a in searched)
        yield f"Student epochs per seed spent beyond this budget, to search: {beyond}."
    if _was_trained(outcome):
        yield _teacher_table(outcome)
    yield _budget(outcome)


def _agent_row(agent: AgentOutcome) -> list[str]:
    low, high = min(agent.best_epochs), max(agent.best_epochs)
    interval = agent.interval
    return [
        f"`{cell(agent.agent)}`",
        str(agent.seeds),
        f"{agent.valid_mrr:.2f}",
        f"{agent.test['mrr']:.2f}",
        f"[{interval[0]:.2f}, {interval[1]:.2f}]" if interval else "–",
        *(f"{agent.test[metric]:.2f}" for metric in ("hits@1", "hits@3", "hits@10")),
        f"{agent.seconds:,.0f}",
        str(low) if low == high else f"{low}–{high}",
        f"{agent.moving} of {agent.seeds}" if agent.moving else "no",
    ]


def _variant(name: str, sections: Mapping[str, Mapping[str, Any]]) -> str:
    changes = "; ".join(
        f"{section} {', '.join(f'{key} {json.dumps(value)}' for key, value in values.items())}"
        for section, values in sections.items()
    )
    return f"* `{name}`: {changes}"


def _was_trained(outcome: Outcome) -> bool:
    """Whether there was a teacher that knew anything."""
    return set(outcome.teachers) != {"uniform"}


def _teacher_table(outcome: Outcome) -> str:
    rows = [
        [f"`{cell(name)}`", f"{of['valid']['mrr']:.2f}"]
        + [f"{of['test'][metric]:.2f}" for metric in METRICS]
        for name, of in outcome.teachers.items()
    ]
    return table(["teacher", "valid MRR", *(f"test {m}" for m in METRICS.values())], rows)


def _budget(outcome: Outcome) -> str:
    settings = outcome.settings
    size = "" if outcome.parameters is None else f"; {outcome.parameters:,} parameters"
    teachers = ""
    if _was_trained(outcome):
        penalty = _penalty(settings["teacher_regularisation"])
        teachers = (
            f"; teachers of rank {settings['teacher_rank']}, at most "
            f"{settings['teacher_epochs']} epochs of batch {settings['teacher_batch']}, λ {penalty}"
        )
    versions = ", ".join(f"{name} {value}" for name, value in outcome.versions.items())
    return (
        f"Seeds {', '.join(map(str, outcome.seeds))}. Student λ {settings['regularisation']}, "
        f"γ {settings['gamma']}{size}{teachers}. Trials took {_duration(outcome.seconds)} one "
        "after the other, their evaluations and searches included, the teachers' training not. "
        f"{outcome.machine}; {versions}."
    )


def _penalty(value: object) -> str:
    """λ of N3 of the teachers; a mapping has others than the default by name."""
    if not isinstance(value, Mapping):
        return str(value)
    usual = value.get("default", PretrainingConfig.regularisation)
    others = [f"{name} {one}" for name, one in value.items() if name != "default"]
    return f"{usual} ({', '.join(others)})" if others else str(usual)


def _duration(seconds: float) -> str:
    minutes = round(seconds / 60)
    if minutes < 2:
        return f"{seconds:.0f} s"
    return f"{minutes // 60} h {minutes % 60} min" if minutes >= 60 else f"{minutes} min"


def cell(text: str) -> str:
    """Text that ends no cell of a table."""
    return text.replace("|", "\\|")


def table(header: Sequence[str], rows: Sequence[Sequence[str]]) -> str:
    """A table in Markdown."""
    # Words to the left, figures (and dashes, where there are none) to the right.
    figures = [
        not any(character.isalpha() for row in rows for character in row[column])
        for column in range(len(header))
    ]
    lines = [header, ["---:" if figure else "---" for figure in figures], *rows]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)
