"""What has finished is read back, whoever wrote it, and refused in one way."""

import json
from pathlib import Path
from typing import Any

import pytest

from agents.resuming import FOLDER, RESULT, finished


def number_of(document: Any) -> int:
    if document["number"] < 0:
        raise ValueError("expected a number of at least 0")
    return int(document["number"])


def written(folder: Path, content: str) -> Path:
    (folder / FOLDER).mkdir()
    (folder / FOLDER / "left").write_text("by a process that was killed")
    (folder / RESULT).write_text(content)
    return folder


def test_a_result_is_read_and_its_checkpoints_go(tmp_path: Path) -> None:
    assert finished(tmp_path / "nowhere", "k", number_of) is None
    assert finished(tmp_path, "k", number_of) is None
    written(tmp_path, json.dumps({"key": "k", "number": 7}))
    assert finished(tmp_path, "k", number_of) == 7
    assert [path.name for path in tmp_path.iterdir()] == [RESULT]


@pytest.mark.parametrize(
    ("content", "said"),
    [
        ('{"key": "k", "number": 7', "line 1: expected JSON"),
        ('{"key": "k", "number": -1}', "expected a number of at least 0"),
        ('{"key": "k"}', "KeyError"),
        ('{"number": 7}', "KeyError"),
        ("[]", "TypeError"),
        ("null", "TypeError"),
    ],
)
def test_a_damaged_one_is_one_sentence_and_stays(tmp_path: Path, content: str, said: str) -> None:
    written(tmp_path, content)
    with pytest.raises(ValueError, match="no finished run: remove it") as caught:
        finished(tmp_path, "k", number_of)
    assert str(caught.value).startswith(str(tmp_path / RESULT))
    assert said in str(caught.value)
    assert (tmp_path / RESULT).read_text() == content
    assert (tmp_path / FOLDER / "left").exists()


def test_one_of_another_configuration_stays(tmp_path: Path) -> None:
    written(tmp_path, json.dumps({"key": "k", "number": 7}))
    with pytest.raises(ValueError, match="another configuration"):
        finished(tmp_path, "other", number_of)
    assert (tmp_path / FOLDER / "left").exists()
