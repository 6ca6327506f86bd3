"""Folders of graphs as nobody meant them, made here; each is refused by file and line."""

import io
import json
import lzma
import os
from collections.abc import Callable
from pathlib import Path

import pytest

from graphs import load_graph
from tests.graphs.folders import BY_NAME, IDS_WITH_NAMES, MOMOK, MYGO, NATIVE, OPENKE, PYKEEN, write
from tests.malformed.conftest import Refused

Spoil = Callable[[Path], None]


def text(name: str, content: str | bytes) -> Spoil:
    """A file of the folder with other content."""
    data = content.encode() if isinstance(content, str) else content
    return lambda folder: (folder / name).write_bytes(data) and None


def replaced(name: str, old: str, new: str) -> Spoil:
    """A file of the folder with a part replaced, once."""

    def spoil(folder: Path) -> None:
        content = (folder / name).read_bytes()
        assert old.encode() in content
        (folder / name).write_bytes(content.replace(old.encode(), new.encode(), 1))

    return spoil


def cut(name: str, size: int) -> Spoil:
    """A file that ends early."""
    return lambda folder: os.truncate(folder / name, size)


def link(name: str, target: str) -> Spoil:
    """A file of the folder that is a link instead."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink(missing_ok=True)
        (folder / name).symlink_to(target)

    return spoil


def link_of_features(folder: Path) -> None:
    """Features that lie elsewhere, where a graph from elsewhere has no business."""
    outside = folder.parent / "outside"
    outside.mkdir()
    (folder / "modalities").symlink_to(outside, target_is_directory=True)


def pipe(name: str) -> Spoil:
    """A file that never ends."""

    def spoil(folder: Path) -> None:
        (folder / name).unlink()
        os.mkfifo(folder / name)

    return spoil


def bomb(name: str, line: bytes, times: int) -> Spoil:
    """An xz file of some kilobytes that unpacks to `times` lines."""

    def spoil(folder: Path) -> None:
        packed = io.BytesIO()
        with lzma.open(packed, "w", preset=0) as file:
            block = line * 2**16
            for _ in range(times // 2**16):
                file.write(block)
        (folder / name).unlink()
        (folder / f"{name}.xz").write_bytes(packed.getvalue())

    return spoil


def card(**content: object) -> Spoil:
    return text("card.json", json.dumps(content))


LATIN = "Münster\tborders\tParis\n".encode("latin-1")
# What is wrong: the folder, how it is spoilt, the file that the sentence names, and what it says.
CORPUS: dict[str, tuple[dict[str, str], Spoil, str, str]] = {
    # OpenKE
    "count too large": (
        OPENKE,
        replaced("train2id.txt", "4\n", "5\n"),
        "train2id.txt, line 1",
        "4",
    ),
    "count of a trillion": (
        *(OPENKE, replaced("train2id.txt", "4\n", "1000000000000\n")),
        *("train2id.txt, line 1", "number of triples below, 4"),
    ),
    "count of no end": (
        *(OPENKE, replaced("train2id.txt", "4\n", "9" * 5000 + "\n")),
        *("train2id.txt, line 1", "number of triples below, 4"),
    ),
    "count is negative": (OPENKE, replaced("train2id.txt", "4\n", "-4\n"), "line 1", "got '-4'"),
    "count is no number": (OPENKE, replaced("train2id.txt", "4\n", "four\n"), "line 1", "'four'"),
    "no count": (OPENKE, replaced("valid2id.txt", "1\n", ""), "valid2id.txt, line 1", "below, 0"),
    "empty triples": (OPENKE, text("train2id.txt", ""), "train2id.txt, line 1", "got ''"),
    "no training triples": (OPENKE, text("train2id.txt", "0\n"), "toy", "no training triples"),
    "truncated triples": (OPENKE, cut("train2id.txt", 12), "train2id.txt, line 1", "below"),
    "torn last line": (OPENKE, cut("train2id.txt", 23), "train2id.txt, line 5", "got '4 2'"),
    "head out of range": (OPENKE, replaced("train2id.txt", "3 1 1", "5 1 1"), "line 2", "[0, 5)"),
    "relation out of range": (
        *(OPENKE, replaced("train2id.txt", "3 1 1", "3 1 2")),
        *("train2id.txt, line 2", "[0, 2)"),
    ),
    "negative tail": (OPENKE, replaced("train2id.txt", "3 1 1", "3 -1 1"), "line 2", "entity id"),
    "huge id": (OPENKE, replaced("train2id.txt", "3 1", "3 " + "9" * 30), "line 2", "entity id"),
    "id of a million digits": (
        *(OPENKE, replaced("train2id.txt", "3 1", "3 " + "9" * 10**6)),
        *("train2id.txt, line 2", "..."),
    ),
    "fraction as id": (OPENKE, replaced("train2id.txt", "3 1 1", "3.0 1 1"), "line 2", "'3.0"),
    "entity twice": (
        *(OPENKE, replaced("entity2id.txt", "France", "Berlin")),
        *("entity2id.txt, line 3", "line 2 does not have"),
    ),
    "id twice": (
        OPENKE,
        replaced("entity2id.txt", "\t1", "\t0"),
        "entity2id.txt, line 3",
        "no line",
    ),
    "id missing": (OPENKE, replaced("entity2id.txt", "\t4", "\t5"), "line 6", "[0, 5)"),
    "entity without id": (OPENKE, replaced("entity2id.txt", "\t1", ""), "line 3", "and its id"),
    "names in Latin-1": (
        *(OPENKE, text("entity2id.txt", b"1\nM\xfcnster\t0\n")),
        *("entity2id.txt, line 2", "expected UTF-8"),
    ),
    "names in UTF-16": (
        *(OPENKE, text("entity2id.txt", "1\nParis\t0\n".encode("utf-16"))),
        *("entity2id.txt, line 1", "expected UTF-8"),
    ),
    "zeros only": (
        OPENKE,
        text("relation2id.txt", bytes(4096)),
        "relation2id.txt, line 1",
        "its id",
    ),
    "a file is a folder": (
        *(
            OPENKE,
            lambda folder: ((folder / "test2id.txt").unlink(), (folder / "test2id.txt").mkdir()),
        ),
        *("test2id.txt", "is missing"),
    ),
    "a file is missing": (OPENKE, lambda f: (f / "test2id.txt").unlink(), "test2id.txt", "missing"),
    # Triples by name and by id
    "two fields": (PYKEEN, text("train.tsv", "Paris\tborders\n"), "train.tsv, line 1", "3 tab-"),
    "four fields": (PYKEEN, text("train.tsv", "a\tb\tc\td\n"), "train.tsv, line 1", "3 tab-"),
    "a blank line": (
        PYKEEN,
        text("train.tsv", "a\tb\tc\n\nd\tb\tc\n"),
        "train.tsv, line 2",
        "got ''",
    ),
    "triples in Latin-1": (PYKEEN, text("test.tsv", LATIN), "test.tsv, line 1", "expected UTF-8"),
    "spaces after tabs": (
        PYKEEN,
        replaced("train.tsv", "\tcapital", " capital"),
        "line 1",
        "3 tab",
    ),
    "nothing at all": (PYKEEN, text("train.tsv", ""), "toy", "no training triples"),
    "a stranger": (MYGO, replaced("train.txt", "Paris", "Pari"), "train.txt, line 1", "got 'Pari'"),
    "a stranger by id": (
        *(IDS_WITH_NAMES, replaced("train.tsv", "3\t1\t1", "3\t1\t7")),
        *("train.tsv, line 1", "got '7'"),
    ),
    "a negative id": (IDS_WITH_NAMES, replaced("train.tsv", "3\t", "-3\t"), "line 1", "got '-3'"),
    "a name twice": (
        MYGO,
        replaced("entities.txt", "France", "Berlin"),
        "entities.txt, line 2",
        "1",
    ),
    "no full stop": (MOMOK, replaced("train.txt", "Germany .", "Germany"), "line 2", "full stop"),
    "CRLF in the middle of a line": (
        *(PYKEEN, replaced("train.tsv", "\tcapital of\t", "\t\r\ncapital of\t")),
        *("train.tsv, line 1", "3 tab-separated fields"),
    ),
    # Native tables
    "header of another table": (
        *(NATIVE, replaced("entities.tsv", "key", "clef")),
        *("entities.tsv, line 1", "the header"),
    ),
    "ids that jump": (NATIVE, replaced("entities.tsv", "\n2\t", "\n3\t"), "line 4", "id 2"),
    "a row too short": (NATIVE, replaced("relations.tsv", "\tborders", ""), "line 2", "2 tab-"),
    "a key twice": (NATIVE, replaced("entities.tsv", "1\tFrance", "1\tBerlin"), "line 3", "key"),
    "texts of half": (NATIVE, text("texts.tsv", "id\ttext\n0\ta\n"), "texts.tsv", "5 texts"),
    "a card of NaN": (NATIVE, text("card.json", '{"a": NaN}'), "card.json", "no JSON number"),
    "a card of an integer of no end": (
        *(NATIVE, text("card.json", '{"a": ' + "9" * 10_000 + "}")),
        *("card.json", "expected JSON"),
    ),
    "a card without an end": (NATIVE, text("card.json", '{"a": ['), "card.json, line 1", "JSON"),
    "a card of lists in lists": (NATIVE, text("card.json", "[" * 10**5), "card.json", "JSON"),
    "a mask of lists in lists": (NATIVE, card(planted_mask=[[[1]], [[0]]]), "card.json", "0 and 1"),
    "a mask of another shape": (NATIVE, card(planted_mask=[[1]]), "card.json", "shape (4, 0)"),
    "a name that moves the cursor": (NATIVE, card(name="\x1b[2J"), "card.json", "can be printed"),
    "a name of half a letter": (NATIVE, card(name="\ud800"), "card.json", "can be printed"),
    "a name that is a list": (NATIVE, card(name=["a"]), "card.json", "can be printed"),
    # Names and literals
    "text table of a stranger": (
        *(OPENKE, text("entity_text.tsv", "id\tkey\tname\tdescription\tsource\n9\ta\tb\tc\td\n")),
        *("entity_text.tsv, line 2", "[0, 5)"),
    ),
    "text table of an id of no end": (
        OPENKE,
        text("entity_text.tsv", f"id\tkey\tname\tdescription\tsource\n{'9' * 5000}\ta\tb\tc\td\n"),
        *("entity_text.tsv, line 2", "..."),
    ),
    "text without a tab": (
        OPENKE,
        text("entity2text.txt", "Paris\n"),
        "entity2text.txt, line 1",
        "tab",
    ),
    "links of three": (
        OPENKE,
        text("ent_links.txt", "a\tb\tc\n"),
        "ent_links.txt, line 1",
        "2 tab-",
    ),
    "literal of infinity": (
        *(OPENKE, text("A_NumericalTriples.txt", "Paris\theight\tinf\n")),
        *("A_NumericalTriples.txt, line 1", "a number"),
    ),
    # Where they lie
    "a link out": (NATIVE, link("train.tsv", "/etc/passwd"), "train.tsv", "a link out of it"),
    "a link up": (NATIVE, link("texts.tsv", "../outside.tsv"), "texts.tsv", "a link out of it"),
    "a link to itself": (NATIVE, link("train.tsv", "train.tsv"), "train.tsv", ""),
    "a folder of features out": (NATIVE, link_of_features, "modalities", "a link out of it"),
    "a pipe": (PYKEEN, pipe("train.tsv"), "train.tsv", "a pipe, a socket or a device"),
    "a device": (NATIVE, link("valid.tsv", "/dev/zero"), "valid.tsv", "a link out of it"),
    # Packed
    "a bomb of one line": (OPENKE, bomb("train2id.txt", bytes(64), 2**20), ".xz", "when unpacked"),
    "a bomb of lines": (OPENKE, bomb("train2id.txt", b"\n", 2**25), ".xz", "when unpacked"),
    "packed and torn": (
        *(OPENKE, text("train2id.txt.xz", lzma.compress(b"0\n")[:-4])),
        *("train2id.txt.xz", "expected an xz file"),
    ),
    "no graph at all": (dict(BY_NAME), lambda folder: None, "toy", "expected one of the formats"),
}


@pytest.mark.parametrize("kind", CORPUS)
def test_a_malformed_graph_is_one_sentence(kind: str, tmp_path: Path, refused: Refused) -> None:
    files, spoil, where, says = CORPUS[kind]
    folder = write(tmp_path / "toy", files)
    if kind == "packed and torn":
        (folder / "train2id.txt").unlink()
    spoil(folder)
    said = refused(load_graph, folder)
    assert where in said
    assert says in said


@pytest.mark.parametrize("files", [OPENKE, PYKEEN, NATIVE, IDS_WITH_NAMES])
def test_windows_line_ends_are_no_harm(files: dict[str, str], tmp_path: Path) -> None:
    plain = load_graph(write(tmp_path / "toy", files))
    windows = {name: text.replace("\n", "\r\n") for name, text in files.items()}
    again = load_graph(write(tmp_path / "windows", windows))
    assert again.fingerprint == plain.fingerprint
    assert again.entity_labels == plain.entity_labels


def test_links_inside_a_folder_are_no_harm(tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", NATIVE)
    (folder / "train.tsv").rename(folder / "train-2")
    (folder / "train.tsv").symlink_to("train-2")
    (tmp_path / "link").symlink_to(folder)
    assert len(load_graph(tmp_path / "link").triples["train"]) == 4


@pytest.mark.parametrize(
    ("dataset", "says"),
    [
        ("emojy", "did you mean 'emoji'"),
        ("emoji:size=2", "takes no options"),
        ("planted:entitys=9", "did you mean 'entities'"),
        ("planted:entities=-9", "entities: expected at least 1"),
        ("planted:entities=1000000000000", "entities: expected at most"),
        ("planted:entities=30000000", "numbers of features"),
        ("planted:entities=2000000,feature_width=1", "numbers of pairs"),
        ("planted:entities=" + "9" * 5000, "expected a value of type int"),
        ("planted:noise=nan", "noise: expected a finite number"),
        ("planted:noise=1e39", "noise: expected at most"),
        ("planted:missing=1", "missing: expected a fraction"),
        ("planted:seed=-1", "seed: expected at least 0"),
        ("planted:entities=800,entities=900", "distinct key=value"),
        ("planted:entities", "distinct key=value"),
        ("planted:modalities=../a+b", "letters, digits"),
        ("nowhere/at/all", "neither a folder nor a known graph"),
        ("a\0b", "neither a folder nor a known graph"),
        ("x" * 5000, "too long"),
        ("{folder}:valid=publishd", "did you mean 'published'"),
        ("{folder}:coverage=2", "coverage: expected 0 to 1"),
        ("{folder}:coverage=nan", "coverage: expected 0 to 1"),
        ("{folder}:valid=published,valid=resplit", "distinct key=value"),
        ("{folder}:colour=red", "did you mean"),
    ],
)
def test_a_malformed_dataset_is_one_sentence(
    dataset: str, says: str, tmp_path: Path, refused: Refused
) -> None:
    folder = write(tmp_path / "toy", OPENKE)
    assert says in refused(load_graph, dataset.replace("{folder}", str(folder)))
