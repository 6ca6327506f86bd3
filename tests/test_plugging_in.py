"""The examples of docs/plugging-in.md work as they are written."""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from agents.registry import AGENTS
from dsom_env.rewards import REWARDS
from students.registry import STUDENTS
from teachers.registry import TEACHERS


def test_examples_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    text = (Path(__file__).parents[1] / "docs" / "plugging-in.md").read_text("utf-8")
    blocks = re.findall(r"```python\n(.*?)```", text, flags=re.S)
    assert len(blocks) == 7
    monkeypatch.chdir(tmp_path)
    before = [dict(registry) for registry in (AGENTS, REWARDS, STUDENTS, TEACHERS)]
    names: dict[str, Any] = {"__name__": "plugging_in"}
    try:
        for block in blocks:
            exec(compile(block, "docs/plugging-in.md", "exec"), names)  # noqa: S102 - our own docs
    finally:
        for registry, kept in zip((AGENTS, REWARDS, STUDENTS, TEACHERS), before, strict=True):
            registry.clear()
            registry.update(kept)  # type: ignore[arg-type]
    assert names["graph"].num_entities == 40
    assert set(names["result"]["mean_mask"]) >= {"structure", "sound", "fused"}
    assert set(names["learned"]["mean_mask"]) == set(names["result"]["mean_mask"])
    assert names["learned"]["hyperparameters"]["policy"] == {"net_arch": [16]}
    assert "40 1 ['sound']" in capsys.readouterr().out
    (script,) = re.findall(r"```python script\n(.*?)```", text, flags=re.S)
    (tmp_path / "script.py").write_text(script)
    subprocess.run([sys.executable, "script.py"], check=True)
    results = json.loads((tmp_path / "runs" / "mine" / "results.json").read_text("utf-8"))
    assert results["complete"]
    assert [run["agent"] for run in results["runs"]] == ["all", "all", "coin", "coin"]
