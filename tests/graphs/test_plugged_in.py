"""Code of the user's has a hash that changes with it; ours and libraries' has none."""

import functools
from typing import Any

import pytest
import torch

from graphs.plugged_in import plugged_in_code
from teachers.structure import Structure
from tests.conftest import LoadSource

SOURCE = """
import functools
from abc import ABC
from teachers.structure import Structure

class Base(ABC):
    bias = 1

class Mine(Base):
    def score(self):
        return 2

class Better(Structure):
    width = 3

def make(width):
    return width

quick = lambda width: width
"""


@pytest.mark.parametrize(
    ("name", "before", "after"),
    [
        ("Mine", "return 2", "return 4"),
        ("Mine", "bias = 1", "bias = 4"),
        ("Better", "width = 3", "width = 4"),
        ("make", "return width", "return 2 * width"),
        ("quick", "lambda width: width", "lambda width: 2 * width"),
    ],
)
def test_an_edit_changes_the_hash(
    load_source: LoadSource, name: str, before: str, after: str
) -> None:
    first = plugged_in_code(getattr(load_source(SOURCE), name))
    assert first is not None
    assert plugged_in_code(getattr(load_source(f"# moved\n{SOURCE}", "__mp_main__"), name)) == first
    assert plugged_in_code(getattr(load_source(SOURCE.replace(before, after)), name)) != first


def test_forms_of_a_factory(load_source: LoadSource) -> None:
    module = load_source(SOURCE)
    assert plugged_in_code(functools.partial(module.make, 3)) == plugged_in_code(module.make)
    assert plugged_in_code(module.Mine()) == plugged_in_code(module.Mine)


def test_ours_and_what_has_no_source_have_none() -> None:
    for thing in (Structure, functools.partial(Structure, rank=3), torch.nn.Linear, len, dict):
        assert plugged_in_code(thing) is None
    names: dict[str, Any] = {"__name__": "typed"}
    exec("class Typed: pass", names)  # noqa: S102 - as in an interactive session
    assert plugged_in_code(names["Typed"]) is None
