"""The API reference: a page for every public module, from its docstrings."""

from __future__ import annotations

import ast
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files

ROOT = Path(__file__).parents[2]
PACKAGES = ("dsom_env", "agents", "teachers", "students", "graphs")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the reference into the navigation, before its last entry."""
    packages = [{package: _navigation(ROOT / package)} for package in PACKAGES]
    *before, last = config.nav or []
    config.nav = [*before, {"Reference": ["reference/index.md", *packages]}, last]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages."""
    overview = ["# Reference\n"]
    for package in PACKAGES:
        overview += [f"\n## {package}\n", _table(ROOT / package)]
        for module in _modules(ROOT / package):
            text = f"::: {_dotted(module)}\n"
            if module.name == "__init__.py":
                text += f"\n## Modules\n\n{_table(module.parent)}"
            files.append(File.generated(config, _page(module), content=text))
    files.append(File.generated(config, "reference/index.md", content="\n".join(overview)))
    return files


def _navigation(folder: Path) -> list[Any]:
    """The page of a package, then those of its modules by name, folders as sections."""
    entries: list[Any] = [_page(folder / "__init__.py")]
    for path in sorted(folder.iterdir()):
        if path.name.startswith(("_", ".")):
            continue
        if path.suffix == ".py":
            entries.append({path.stem: _page(path)})
        elif (path / "__init__.py").is_file():
            entries.append({path.name: _navigation(path)})
    return entries


def _modules(folder: Path) -> Iterator[Path]:
    """Public modules of a package, those of packages in it included."""
    for path in sorted(folder.rglob("*.py")):
        names = path.relative_to(folder).with_suffix("").parts
        if all(name == "__init__" or not name.startswith("_") for name in names):
            yield path


def _page(module: Path) -> str:
    path = module.relative_to(ROOT).as_posix().removesuffix(".py").replace("__init__", "index")
    return f"reference/{path}.md"


def _dotted(path: Path) -> str:
    parts = path.relative_to(ROOT).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def _table(folder: Path) -> str:
    """Modules of a folder and the first line of what they say of themselves."""
    rows = ["| module | |", "|---|---|"]
    for module in _modules(folder):
        said = ast.get_docstring(ast.parse(module.read_text("utf-8"))) or ""
        first = said.partition("\n\n")[0].replace("\n", " ").replace("|", "\\|")
        name = _dotted(module)
        rows.append(f"| [`{name}`][{name}] | {first} |")
    return "\n".join(rows) + "\n"
