"""The explorer on the page: its frame and its data; `page.js` fills the one from the other."""

from __future__ import annotations

import json
from collections.abc import Mapping
from html import escape
from typing import Any

FILE = "explorer.json"
FORMAT = 1
_NEEDED = {"valid", "relations", "queries", "names", "about", "teachers", "before", "agents"}


def parse_explorer(document: Any) -> Mapping[str, Any]:
    """The content of an `explorer.json`, looked at.

    Raises:
        ValueError: it is not one, or of another format.
    """
    if not isinstance(document, dict) or not document.keys() >= _NEEDED:
        raise ValueError("not the explorer of a comparison")
    if document.get("format") != FORMAT:
        raise ValueError(f"format {document.get('format')!r} is not {FORMAT}")
    return document


def explorer_section(document: Mapping[str, Any] | None) -> str:
    """Queries to pick, and what everybody answered to them.

    Args:
        document: content of `explorer.json`; None for a comparison that has none.
    """
    if document is None:
        return ""
    count, valid = len(document["queries"]), document["valid"]
    agents = document["agents"]
    trained = "" if agents else " No trial has finished yet: the teachers' answers are here."
    silent = [one["name"] for one in agents if one["chosen"] is None]
    unsaid = ""
    if silent:
        unsaid = (
            f" For queries that are not taught nothing follows from {escape(', '.join(silent))}."
        )
    return (
        f'<h2 id="explorer">Explorer</h2><p class="soft">{count:,} of the {valid:,} valid queries, '
        "dealt out over the relations; no test triple is in here. Other known answers are left "
        "out, so that rank 1 is the best. Nobody is taught these queries: what an agent would "
        "choose for them is asked with its student at the end of training, of one seed; the "
        f"student's answers are those of its best epoch.{unsaid}{trained}</p>"
        '<div class="explorer"><div class="finder"><label for="search">Entity or relation</label>'
        '<input id="search" type="search" autocomplete="off" placeholder="search">'
        '<p id="found" class="soft" role="status"></p><ul id="queries"></ul></div>'
        '<div id="shown"></div></div><noscript><p>The explorer needs JavaScript.</p></noscript>'
        f'<script type="application/json" id="explorer-data">{embedded(document)}</script>'
    )


def embedded(document: Mapping[str, Any]) -> str:
    """JSON that cannot end the element it stands in: no `<` is left."""
    text = json.dumps(document, ensure_ascii=False, separators=(",", ":"))
    return text.replace("<", "\\u003c")
