"""Pages load nothing from a network; one that would is not built."""

from __future__ import annotations

import re

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.pages import Page

# What a browser fetches by itself: links are followed by people only.
FETCHED = re.compile(
    r"<(?:script|img|iframe|source|video|audio|embed)\b[^>]*\bsrc=[\"']?(?:https?:)?//[^\"'\s>]*"
    r"|<link\b[^>]*\bhref=[\"']?(?:https?:)?//[^\"'\s>]*"
)


def on_post_page(output: str, page: Page, config: MkDocsConfig) -> str:
    """Refuse what a page would fetch from elsewhere."""
    found = FETCHED.search(output)
    if found:
        raise PluginError(f"{page.file.src_uri} would load {found[0]}")
    return output
