"""The examples on docs/graphs.md load, and are one graph in several formats."""

import re
from pathlib import Path

import pytest

from graphs import load_graph
from graphs.formats import FORMATS
from graphs.loading import planted_spec

PAGE = (Path(__file__).parents[1] / "docs" / "graphs.md").read_text("utf-8")


def examples() -> dict[str, dict[str, str]]:
    """Files by name, by heading."""
    found = {}
    for section in re.split(r"^## ", PAGE, flags=re.MULTILINE)[1:]:
        files = re.findall(r"^```text (\S+)\n(.*?)^```$", section, re.MULTILINE | re.DOTALL)
        if files:
            found[section.partition("\n")[0]] = dict(files)
    return found


@pytest.mark.parametrize("heading", ["OpenKE", "Triples by name", "Triples by id", "Native"])
def test_examples_are_one_graph(tmp_path: Path, heading: str) -> None:
    assert heading in examples()
    for name, text in examples()[heading].items():
        (tmp_path / name).write_text(text, "utf-8")
    graph = load_graph(tmp_path)
    assert graph.entity_labels == ("Paris", "The Hague", "France")
    assert graph.relation_labels == ("capital of",)
    assert graph.triples["train"].tolist() == [[0, 0, 2]]
    assert [form.matches(tmp_path) for form in FORMATS.values()].count(True) >= 1


def test_every_format_has_an_example() -> None:
    assert len(examples()) > len(FORMATS) - 1


def test_planted_options_are_taken() -> None:
    names = re.findall(r"`(planted-medium:[^`]+)`", PAGE)
    assert len(names) >= 7
    for name in names:
        assert planted_spec(name) != planted_spec("planted-medium"), name
