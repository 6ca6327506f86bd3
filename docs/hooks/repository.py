"""Pages of the site that are not in docs/: the README in front, and whatever pages link to.

A link that works on GitHub works on the site, without a second version of any text: the target of
a link out of docs/ becomes a page of the site, and the link leads there. A module of a package is a
page of the reference already.
"""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

ROOT = Path(__file__).parents[2]
PACKAGES = ("agents", "dsom_env", "graphs", "students", "teachers")
FRONT = ("README.md", "CHANGELOG.md", "CONTRIBUTING.md", "SECURITY.md")
# A Markdown link or picture that names a file, up to its anchor.
LINK = re.compile(r"(?<=\]\()(?!\w+:)([^)\s#]+)")
# The first line of a listing with a name behind its language, which GitHub leaves out.
FENCE = re.compile(r"^(```\w+) +(\S+)$", re.MULTILINE)


def page_of(path: str) -> str:
    """Where on the site a file is, by its path in the repository."""
    if path == "README.md":
        return "index.md"
    if path in FRONT:
        return path
    if path.startswith("docs/"):
        return path.removeprefix("docs/").replace(".ipynb", ".md")
    package, _, name = path.partition("/")
    if package in PACKAGES and name.endswith(".py"):
        return f"reference/{path.removesuffix('.py').replace('__init__', 'index')}.md"
    return f"repository/{path}" if path.endswith(".md") else f"repository/{path}.md"


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the front pages, and what is linked to, and what that links to."""
    pages = [file for file in files.documentation_pages() if file.generated_by is None]
    waiting = [*FRONT, *(f"docs/{page.src_uri}" for page in pages)]
    seen = set(waiting)
    while waiting:
        path = waiting.pop()
        if files.get_file_from_path(page_of(path)) is None:
            files.append(_made(path, config))
        if path.endswith(".md"):
            found = {_target(path, link) for link in LINK.findall((ROOT / path).read_text("utf-8"))}
            new = {target for target in found - seen if _needs_page(target)}
            seen |= new
            waiting += sorted(new)
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Turn links between files into links between pages, and names of listings into titles."""
    markdown = FENCE.sub(r'\1 title="\2"', markdown)
    source = page.file.abs_src_path
    if source is None or not Path(source).is_relative_to(ROOT):
        return markdown
    path = Path(source).relative_to(ROOT).as_posix()
    folder = posixpath.dirname(page.file.src_uri)

    def lead(match: re.Match[str]) -> str:
        target = page_of(_target(path, match[1]))
        if files.get_file_from_path(target) is None:
            return match[1]  # MkDocs says what is wrong with it
        return posixpath.relpath(target, folder)

    return LINK.sub(lead, markdown)


def _target(path: str, link: str) -> str:
    return posixpath.normpath(posixpath.join(posixpath.dirname(path), link))


def _needs_page(target: str) -> bool:
    if target.startswith(("..", "docs/")) or page_of(target).startswith("reference/"):
        return False
    return (ROOT / target).is_file()


def _made(path: str, config: MkDocsConfig) -> File:
    """The page of a file outside of docs/: Markdown as it is, anything else as a listing."""
    if path.endswith(".md"):
        return File.generated(config, page_of(path), abs_src_path=str(ROOT / path))
    kind = Path(path).suffix.removeprefix(".")
    text = (ROOT / path).read_text("utf-8")
    page = f"# `{path}`\n\n~~~~ {kind}\n{text.rstrip()}\n~~~~\n"
    return File.generated(config, page_of(path), content=page)
