"""Prepare the data that ships with the package or that experiments read."""

from __future__ import annotations

import argparse
import json
import logging
import sys
import warnings
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from agents.command_line import REFUSALS, sentence
from graphs import GraphWarning, MultimodalGraph, describe, graph_card, load_graph, save_graph
from graphs.building.sources import BuildError

_GRAPH = "folder or name of a graph, with options behind a colon"


def _emoji(arguments: argparse.Namespace) -> int:
    # Torch takes a second to import: only who builds pays for it.
    from graphs.building.emoji import SHIPPED, build_emoji, check_emoji

    target = SHIPPED if arguments.out is None else arguments.out
    if arguments.check:
        different = check_emoji(target, arguments.openmoji)
        if different:
            print(f"{target} differs from a new build in: {', '.join(different)}", file=sys.stderr)
            return 1
        print(f"{target} equals a new build, byte by byte")
        return 0
    card = build_emoji(target, arguments.openmoji)
    triples = {split: card["triples"][split] for split in ("train", "valid", "test")}
    print(f"{target}: {card['entities']['total']} entities, triples {triples}")
    return 0


def _check(arguments: argparse.Namespace) -> int:
    graph, notes = _load(arguments)
    card = {**graph_card(graph), "notes": notes}
    if arguments.json:
        print(json.dumps(card, indent=1, ensure_ascii=False))
    else:
        print(describe(graph))
        for note in notes:
            print(f"  note: {note}")
    return 0


def _encode(arguments: argparse.Namespace) -> int:
    if not (arguments.text or arguments.images):
        raise ValueError("encode: expected --text, --images FOLDER, or both")
    if arguments.columns < 1:
        raise ValueError(f"--columns: expected at least 1, got {arguments.columns}")
    if arguments.out.exists() and (arguments.out.is_file() or any(arguments.out.iterdir())):
        raise FileExistsError(f"{arguments.out} is not empty, expected a new folder")  # before work
    from graphs.building.encoders import encode_pictures, encode_sentences

    graph, notes = _load(arguments)
    for note in notes:
        print(f"note: {note}", file=sys.stderr)
    modalities, records = dict(graph.modalities), graph.metadata.get("encoders", {})
    if not isinstance(records, dict):
        raise ValueError(f"{arguments.graph}, card.json: expected an object under 'encoders'")
    records = dict(records)
    if arguments.text:
        modalities["text"], records["text"] = encode_sentences(
            graph, arguments.text_encoder, arguments.columns
        )
    if arguments.images:
        modalities["image"], records["image"] = encode_pictures(
            graph, arguments.images, arguments.image_encoder, arguments.columns
        )
    metadata = {**graph.metadata, "encoders": records}
    graph = replace(graph, modalities=modalities, metadata=metadata)
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    save_graph(graph, arguments.out)
    print(describe(graph))
    return 0


def _load(arguments: argparse.Namespace) -> tuple[MultimodalGraph, list[str]]:
    """The graph, and what its loader warns of."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", GraphWarning)
        graph = load_graph(arguments.graph)
    return graph, [str(warning.message) for warning in caught]


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(prog="prepare.py", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    emoji = commands.add_parser(
        "emoji",
        help="build the embedded graph `emoji`",
        description="Build the embedded graph `emoji` (needs the extra build-data, and npm).",
    )
    emoji.add_argument(
        "--openmoji", type=Path, metavar="PATH", help="unpacked npm package openmoji, not fetched"
    )
    emoji.add_argument(
        "--out", type=Path, metavar="PATH", help="folder to write or check (default: the package's)"
    )
    emoji.add_argument(
        "--check", action="store_true", help="write nothing; compare the folder with a new build"
    )
    emoji.set_defaults(run=_emoji)
    check = commands.add_parser(
        "check",
        help="print the card of a graph",
        description="Print the card of a graph: counts, splits and their overlaps, unseen "
        "entities, inverse leakage, coverage per modality, hubs, and what its loader warns of.",
    )
    check.add_argument("graph", metavar="PATH", help=_GRAPH)
    check.add_argument("--json", action="store_true", help="as JSON")
    check.set_defaults(run=_check)
    encode = commands.add_parser(
        "encode",
        help="turn texts and pictures into features",
        description="Write a graph with features of its texts or pictures as modalities, as a new "
        "folder that loads anywhere (needs the extra encode).",
    )
    encode.add_argument("graph", metavar="PATH", help=_GRAPH)
    encode.add_argument("--out", type=Path, required=True, metavar="PATH", help="a new folder")
    encode.add_argument("--text", action="store_true", help="encode names and descriptions")
    encode.add_argument(
        "--images", type=Path, metavar="PATH", help="encode <entity>.jpg or <entity>/* in a folder"
    )
    for kind, default in (("text", "minilm"), ("image", "efficientnet-lite0")):
        encode.add_argument(
            f"--{kind}-encoder",
            default=default,
            metavar="NAME",
            help=f"{default} (default), or a local Hugging Face folder",
        )
    encode.add_argument(
        "--columns", type=int, default=128, help="principal components to keep (default 128)"
    )
    encode.set_defaults(run=_encode)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one subcommand and return the exit code: 2 when it cannot run here."""
    parsed = _parser().parse_args(arguments)
    logging.basicConfig(level=logging.INFO, format="%(message)s")
    try:
        return int(parsed.run(parsed))
    except (BuildError, *REFUSALS) as error:
        print(f"prepare.py: {sentence(error)}", file=sys.stderr)
        return 2


if __name__ == "__main__":
    sys.exit(main())
