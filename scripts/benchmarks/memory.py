"""Peak memory, each point in a process of its own, and how it grows."""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from .measuring import Settings, Target, say

POINT = Path(__file__).with_name("memory_point.py")
ENTITIES = (10**3, 10**4, 10**5, 10**6)
QUERIES = (4000, 8000, 16000, 32000)
TOP_KS = (16, 32, 64, 128)
SMALL = {"rank": 16, "teachers": 2, "batch": 1000, "steps": 4}


def point(**arguments: Any) -> dict[str, float]:
    """Megabytes of one point.

    Args:
        **arguments: of `memory_point.main`.

    Raises:
        ValueError: the process failed; the sentence is its last line.
    """
    with tempfile.TemporaryDirectory() as folder:
        command = [sys.executable, str(POINT), json.dumps(arguments | {"cache": folder})]
        done = subprocess.run(command, capture_output=True, text=True)  # noqa: S603 - our own file
    if done.returncode:
        raise ValueError(f"memory point {arguments}: {done.stderr.strip().splitlines()[-1]}")
    found: dict[str, float] = json.loads(done.stdout)
    return found


def sweep(name: str, varied: tuple[int, ...], **fixed: Any) -> list[dict[str, float]]:
    """Points that differ in one argument."""
    points = []
    for value in varied:
        found = point(**{**SMALL, **fixed, name: value})
        points.append({name: value, **found})
        say(f"memory: {name} {value}: {found['beyond']:.0f} MB beyond the tables")
    return points


def measure(
    folder: Path | None, settings: Settings, entities: tuple[int, ...] = ENTITIES
) -> tuple[dict[str, Any], list[Target]]:
    """A real graph where there is one, and three sweeps."""
    section: dict[str, Any] = {}
    targets = []
    if folder:
        say(f"memory: {folder.name}, four teachers, K = 128")
        found = point(
            graph=str(folder),
            rank=settings.rank,
            teacher_rank=settings.teacher_rank,
            teachers=4,
            top_k=128,
            batch=settings.batch,
            steps=30,
        )
        section[folder.name] = found
        name = f"peak resident on {folder.name}, four teachers, K = 128"
        targets.append(Target(name, found["peak"] / 1000, 2.0, True, " GB"))
    section["entities"] = sweep("entities", entities, queries=2000, top_k=64)
    section["queries"] = sweep("queries", QUERIES, entities=10**4, top_k=64)
    section["top_k"] = sweep("top_k", TOP_KS, entities=10**4, queries=16000)
    return section, targets
