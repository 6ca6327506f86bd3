r"""Speed and memory beside the peers', in one run: docs/performance.md says what each figure is.

    python scripts/bench.py --graph ../shared/data/MKG-W --memory-graph ../shared/data/DB15K \
      --out runs/bench.json

Everything is a ratio of things that took turns in this process. Without --graph the sections that
need one are left out.
"""

from __future__ import annotations

import argparse
import json
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

import torch
from benchmarks import (
    environment,
    evaluation,
    memory,
    products,
    profiling,
    rows,
    sampled,
    store,
    student,
    subjects,
)
from benchmarks.measuring import CLOCKS, Settings, Target, use_clock

from agents.command_line import parse_names, run
from agents.machine import provenance
from graphs.files import atomic_write
from graphs.graph import GraphWarning
from graphs.naming import unknown

FORMAT = 1
# Those that need --graph, and all.
ON_GRAPH = ("student", "sampled", "evaluation", "store", "profile")
SECTIONS = (
    *("products", "rows", "student", "sampled", "env", "evaluation", "store", "memory"),
    "profile",
)


def parse(words: Sequence[str] | None = None) -> argparse.Namespace:
    """Arguments of the command line.

    Raises:
        ValueError: an unknown section, or one that needs a graph that was not given.
    """
    command = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    command.add_argument("--graph", type=Path, help="folder of MKG-W, or of another graph")
    command.add_argument(
        "--memory-graph", type=Path, help="folder of DB15K, for the memory section"
    )
    command.add_argument("--row-graphs", type=Path, nargs="*", default=[], help="for section rows")
    command.add_argument("--dataset", default="emoji", help="of section env (default: emoji)")
    command.add_argument("--only", type=parse_names, help=f"some of {','.join(SECTIONS)}")
    command.add_argument("--out", type=Path, help="JSON with every repetition")
    command.add_argument("--repetitions", type=int, default=3)
    command.add_argument("--threads", type=int, default=1)
    command.add_argument(
        "--clock",
        choices=CLOCKS,
        default="wall",
        help="cpu: of this process alone, for a machine that others use too (with --threads 1)",
    )
    command.add_argument("--rank", type=int, default=200, help="of the students (default: 200)")
    command.add_argument("--batch", type=int, default=1000, help="queries per update")
    command.add_argument("--steps", type=int, default=20, help="measured updates of co-training")
    command.add_argument("--full", action="store_true", help="store: all queries, not a sample")
    command.add_argument(
        "--keep-denormals", action="store_true", help="what PyKEEN's softmax gradient costs then"
    )
    arguments = command.parse_args(words)
    if arguments.threads < 1:
        raise ValueError(f"--threads must be at least 1, got {arguments.threads}")
    for name in arguments.only or ():
        if name not in SECTIONS:
            raise unknown("--only", name, SECTIONS)
        if name in ON_GRAPH and not arguments.graph:
            raise ValueError(
                f"section {name} needs --graph, a folder such as MKG-W in OpenKE's format "
                "(docs/graphs.md)"
            )
    for folder in (arguments.graph, arguments.memory_graph, *arguments.row_graphs):
        if folder and not folder.is_dir():
            raise ValueError(
                f"{folder} is no folder: expected a graph such as MKG-W (docs/graphs.md)"
            )
    return arguments


def chosen_sections(arguments: argparse.Namespace) -> list[str]:
    """What is to be measured, in order."""
    if arguments.only:
        return [name for name in SECTIONS if name in arguments.only]
    if arguments.graph:
        return list(SECTIONS)
    print(
        f"without --graph (a folder of MKG-W) these sections are left out: {', '.join(ON_GRAPH)}",
        file=sys.stderr,
    )
    return [name for name in SECTIONS if name not in ON_GRAPH]


def measure(arguments: argparse.Namespace) -> tuple[dict[str, Any], list[Target]]:
    """All chosen sections, by name, and their targets."""
    settings = Settings(
        rank=arguments.rank,
        batch=arguments.batch,
        repetitions=arguments.repetitions,
        steps=arguments.steps,
        store_queries=None if arguments.full else Settings.store_queries,
    )
    names = chosen_sections(arguments)
    graph = subjects.load(arguments.graph) if {*names} & {*ON_GRAPH} else None
    found: dict[str, Any] = {}
    targets: list[Target] = []
    for name in names:
        met: list[Target] = []
        if name == "products":
            found[name] = products.measure(settings)
        elif name == "rows":
            folders = [arguments.graph, arguments.memory_graph, *arguments.row_graphs]
            found[name] = rows.measure([folder for folder in folders if folder])
        elif name == "env":
            found[name], met = environment.measure(arguments.dataset, settings.repetitions)
        elif name == "memory":
            found[name], met = memory.measure(arguments.memory_graph, settings)
        elif graph and name == "profile":
            found[name] = profiling.measure(graph, settings)
        elif graph:
            on_graph = {
                "student": student,
                "sampled": sampled,
                "evaluation": evaluation,
                "store": store,
            }
            found[name], met = on_graph[name].measure(graph, settings)
        targets += met
    return found, targets


def show(found: dict[str, Any], targets: list[Target]) -> None:
    """Print what is not in the targets, then the targets."""
    for name, values in found.get("products", {}).get("gflops", {}).items():
        print(f"products: {name} {values:.0f} GFLOP/s")
    for name, graph in found.get("rows", {}).get("graphs", {}).items():
        print(
            f"rows: {name} {graph['rows_per_query']:.3f} per query, "
            f"at the least {graph['distinct_per_query']:.3f}"
        )
    if "student" in found:
        section = found["student"]
        print(f"rows per epoch: {section['rows_per_epoch']}")
        print(f"{'seconds per epoch':44} {'median':>8} {'µs per row':>11}")
        for name, values in section["seconds_per_epoch"].items():
            per_row = median(section["microseconds_per_row"][name])
            print(f"{name:44} {median(values):8.2f} {per_row:11.1f}")
        for name, value in section["ratios"].items():
            print(f"{name:56} {value:6.3f}")
    for name, values in found.get("sampled", {}).get("students", {}).items():
        print(f"sampled: {name} among a sample / among all {values['ratio']:.3f}")
    if "store" in found:
        part = found["store"]
        print(
            f"store: {part['queries']} queries, {part['distinct_questions']} questions; speed / "
            f"products of distinct questions {part['ratio_to_distinct']:.3f}"
        )
    for name, points in found.get("memory", {}).items():
        for point in points if isinstance(points, list) else [points]:
            print(f"memory, {name}: " + ", ".join(f"{k} {v:.0f}" for k, v in point.items()))
    for name, operators in found.get("profile", {}).items():
        parts = (f"{one['operator']} {one['share']:.0%}" for one in operators[:8])
        print(f"profile, {name}: " + ", ".join(parts))
    for target in targets:
        print(target.line())


def main() -> None:
    """Measure, print, write JSON."""
    arguments = parse()
    warnings.simplefilter("ignore", GraphWarning)
    torch.set_num_threads(arguments.threads)
    use_clock(arguments.clock)
    if not arguments.keep_denormals:
        torch.set_flush_denormal(True)
        print(
            "denormal numbers are flushed to zero, for everybody: PyKEEN's softmax gradient is "
            "full of them, and many times slower with them (--keep-denormals shows it)"
        )
    found, targets = measure(arguments)
    show(found, targets)
    if arguments.out:
        document = {
            "format": FORMAT,
            **provenance("pykeen"),
            "clock": arguments.clock,
            "threads": torch.get_num_threads(),
            "denormals": "kept" if arguments.keep_denormals else "flushed to zero",
            "sections": found,
            "targets": [target.to_json() for target in targets],
        }
        arguments.out.parent.mkdir(parents=True, exist_ok=True)
        atomic_write(arguments.out, json.dumps(document, indent=1).encode())


if __name__ == "__main__":
    run(main)
