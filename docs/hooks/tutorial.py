"""The tutorial: the notebook is executed, and what its cells say is shown beneath them.

The notebook is kept without outputs, so that the page never shows what the code no longer does:
where a cell fails, no site is built. `TUTORIAL` in the environment is code that runs after the cell
tagged `parameters`: a smaller budget, say.
"""

from __future__ import annotations

import os
from base64 import b64decode
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import nbformat
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError

NOTEBOOK = Path(__file__).parents[1] / "tutorial.ipynb"
REPORT = "runs/tutorial/report.html"
SECONDS_PER_CELL = 300


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the page, its pictures, and the report that the notebook has made."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    report = _execute(notebook)
    files.append(File.generated(config, REPORT, content=report))
    parts: list[str] = []
    for number, cell in enumerate(notebook.cells):
        if cell.cell_type == "markdown":
            parts.append(cell.source)
            continue
        parts.append(f"```python\n{cell.source}\n```")
        for output in cell.outputs:
            picture = output.get("data", {}).get("image/png")
            if picture is None:
                parts.append(_text(output))
                continue
            name = f"tutorial-{number}.png"
            files.append(File.generated(config, name, content=b64decode(picture)))
            parts.append(f"![What the cell shows]({name})")
    files.append(File.generated(config, "tutorial.md", content="\n\n".join(parts) + "\n"))
    return files


def _execute(notebook: Any) -> bytes:
    """Fill in the outputs; returns the report."""
    parameters = os.environ.get("TUTORIAL")
    cells = list(notebook.cells)
    if parameters:
        (place,) = (i for i, c in enumerate(cells) if "parameters" in c.metadata.get("tags", ()))
        notebook.cells.insert(place + 1, nbformat.v4.new_code_cell(parameters))
    with TemporaryDirectory() as folder:
        resources = {"metadata": {"path": folder}}
        client = NotebookClient(
            notebook, timeout=SECONDS_PER_CELL, resources=resources, coalesce_streams=True
        )
        try:
            client.execute()
        except CellExecutionError as error:
            raise PluginError(f"{NOTEBOOK.name}: {error}") from error
        return Path(folder, REPORT).read_bytes()


def _text(output: Any) -> str:
    """What a cell printed or returned; HTML as it is."""
    data = output.get("data", {})
    if "text/html" in data:
        return str(data["text/html"]).strip()
    said = output["text"] if output.output_type == "stream" else data["text/plain"]
    return f"```text\n{said.rstrip()}\n```"
