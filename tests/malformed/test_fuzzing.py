"""Every parser on noise: what is not read is refused in one sentence, and nothing else happens.

Files come from mutations of good ones, which lead further in than bytes drawn at will.
"""

import json
import time
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from agents.command_line import sentence
from agents.effects import Experiment
from agents.trial import _checked
from agents.tuning.space import parse_space
from agents.variants import parse_variants
from graphs import GraphWarning, load_graph
from graphs.text_files import read_json
from students.saved import load_student
from tests.graphs.folders import IDS_WITH_NAMES, MOMOK, MYGO, NATIVE, OPENKE, PYKEEN, write
from tests.malformed.conftest import SECONDS
from tests.malformed.test_results_and_students import READERS, student

noise = settings(
    deadline=None,
    max_examples=40,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)


def read_or_refuse(call: Callable[[], Any]) -> None:
    """Call it; the only errors are those of bad input, in a sentence."""
    started = time.process_time()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", GraphWarning)
            call()
    except (ValueError, OSError) as error:
        assert 0 < len(sentence(error)) < 2000  # noqa: PT017
        assert not isinstance(error, UnicodeError), "says no file"  # noqa: PT017
    assert time.process_time() - started < SECONDS


# Bytes that mean something to one parser or another.
TOKENS = [
    *(
        b"\n",
        b"\r\n",
        b"\t",
        b" ",
        b"",
        b"\0",
        b"\xff",
        b"\xef\xbb\xbf",
        "٣".encode(),
        b"\xe2\x80\xa8",
    ),
    *(b"-1", b"0", b"5", b"99999999999999999999", b"1e400", b"nan", b"NaN", b"Infinity", b"1_0"),
    *(
        b"[",
        b"]",
        b"{",
        b"}",
        b'"',
        b":",
        b",",
        b"&a ",
        b"*a",
        b"!!int ",
        b"<<: ",
        b"? ",
        b"|",
        b"#",
    ),
    *(
        b"null",
        b"true",
        b".inf",
        b"2001-99-99",
        b"'",
        b"..",
        b"/",
        b"=",
        b"+",
        b"\\ud800",
        b"%",
        b"@",
    ),
]


@st.composite
def mutations(draw: st.DrawFn, data: bytes) -> bytes:
    """Up to four places of the data cut out, doubled, or replaced by a token or by noise."""
    for _ in range(draw(st.integers(1, 4))):
        start = draw(st.integers(0, len(data)))
        stop = min(len(data), start + draw(st.integers(0, 12)))
        new = draw(
            st.one_of(st.sampled_from(TOKENS), st.binary(max_size=8), st.just(2 * data[start:stop]))
        )
        data = data[:start] + new + data[stop:]
    return data if draw(st.integers(0, 9)) else data[: draw(st.integers(0, len(data)))]


GRAPHS = {
    "openke": OPENKE | {"entity_text.tsv": "id\tkey\tname\tdescription\tsource\n0\ta\tb\tc\td\n"},
    "by name": PYKEEN | {"ent_links.txt": "Paris\tP\n", "entity2text.txt": "Paris\tThe town\n"},
    "with lists": MYGO | {"A_NumericalTriples.txt": "Paris\theight\t35\n"},
    "with spaces": MOMOK,
    "by id": IDS_WITH_NAMES,
    "native": NATIVE | {"card.json": '{"name": "toy", "planted_mask": [[1], [0]], "x": [1.5]}'},
}


@noise
@given(data=st.data())
@pytest.mark.parametrize("kind", GRAPHS)
def test_graphs(kind: str, data: st.DataObject, tmp_path: Path) -> None:
    files = GRAPHS[kind]
    folder = write(tmp_path / "toy", files)
    name = data.draw(st.sampled_from(sorted(files)))
    (folder / name).write_bytes(data.draw(mutations(files[name].encode())))
    read_or_refuse(lambda: load_graph(folder))


WHOLE = np.arange(10, dtype=np.float32).reshape(5, 2)
FEATURES: dict[str, Callable[[Path], object]] = {
    "npy": lambda path: np.save(path, WHOLE),
    "npz": lambda path: np.savez(path, entities=np.array(["Paris"]), features=WHOLE[:1]),
    "pt": lambda path: torch.save({"ids": [1, 3], "feats": torch.ones(2, 2)}, path),
    "pth": lambda path: torch.save({3: torch.ones(2)}, path, _use_new_zipfile_serialization=False),
    "safetensors": lambda path: save_file({"features": torch.ones(5, 2)}, path),
}


@noise
@given(data=st.data())
@pytest.mark.parametrize("ending", FEATURES)
def test_feature_files(ending: str, data: st.DataObject, tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", OPENKE)
    (folder / "modalities").mkdir(exist_ok=True)
    path = folder / "modalities" / f"image.{ending}"
    FEATURES[ending](path)
    path.write_bytes(data.draw(mutations(path.read_bytes())))
    with np.errstate(all="ignore"):
        read_or_refuse(lambda: load_graph(folder))


VARIANTS = b"ppo@a: {environment: &a {gamma: 3, reward: gate}}\nall@b:\n  environment: *a\n"
SPACE = b"environment:\n  gamma: {low: 1, high: 8, log: true}\n  folds: [1, 3, 1e-3]\n"


@noise
@given(data=st.data())
@pytest.mark.parametrize(("parse", "text"), [(parse_variants, VARIANTS), (parse_space, SPACE)])
def test_yaml(parse: Callable[[str, str], Any], text: bytes, data: st.DataObject) -> None:
    text = data.draw(st.one_of(mutations(text), st.binary(max_size=60)))
    read_or_refuse(lambda: parse(text.decode("utf-8", "ignore"), "file.yml"))


OPTIONS = st.lists(
    st.tuples(
        st.sampled_from(["entities", "codes", "noise", "seed", "modalities", "blocks", "x", ""]),
        st.sampled_from(["=", "", "=="]),
        st.one_of(
            st.sampled_from(
                ["1", "-1", "160", "1e9", "nan", "0.5", "a+b", "", "9" * 99, "½", "0x10"]
            ),
            st.text(max_size=5),
        ),
    ).map("".join),
    max_size=4,
).map(",".join)


@noise
@given(name=st.sampled_from(["planted", "planted-easy", "emoji", "toy", "", "/"]), options=OPTIONS)
def test_dataset_strings(name: str, options: str) -> None:
    # Small, so that what is accepted is planted at once.
    small = "entities=160,relations=4,blocks=2,tails_per_head=3" if name == "planted" else ""
    read_or_refuse(lambda: load_graph(f"{name}:{','.join(filter(None, [small, options]))}"))


JSON = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.sampled_from([0, -1, 10**12, 10**30, 0.5, 1e308, float("inf"), float("nan"), "", "all"]),
    ),
    lambda part: st.one_of(
        st.lists(part, max_size=2), st.dictionaries(st.sampled_from(["mrr", "a"]), part, max_size=2)
    ),
    max_leaves=4,
)


def places(document: Any, above: tuple[Any, ...] = ()) -> list[tuple[Any, ...]]:
    """The way to every value of a document."""
    if isinstance(document, dict):
        inside = document.items()
    elif isinstance(document, list):
        inside = enumerate(document[:2])  # type: ignore[assignment]
    else:
        return [above]
    return [above, *(place for key, part in inside for place in places(part, (*above, key)))]


# Each reads a whole document, and most of them draw their intervals by thousands of resamples.
@settings(noise, max_examples=5)
@given(data=st.data())
@pytest.mark.parametrize("reader", [*READERS, "effects.py", "result.json"])
def test_results(reader: str, data: st.DataObject, finished: Path, tmp_path: Path) -> None:
    trial = reader == "result.json"
    name = "result.json" if trial else "results.json"
    document = json.loads((finished / name).read_text("utf-8"))
    # Those near the root first: there are thousands of leaves.
    ways = sorted(filter(None, places(document)), key=len)
    *above, last = data.draw(st.sampled_from(ways[: len(ways) // 2]))
    at = document
    for key in above:
        at = at[key]
    if data.draw(st.booleans()):
        at[last] = data.draw(JSON)
    else:
        del at[last]
    path = tmp_path / name
    path.write_text(json.dumps(document))
    parse = READERS | {"effects.py": Experiment.of, "result.json": _checked}
    read_or_refuse(lambda: read_json(path, parse[reader]))


@noise
@given(data=st.data())
def test_saved_students(data: st.DataObject, tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    path.write_bytes(data.draw(mutations(student())))
    read_or_refuse(lambda: load_student(path))


@noise
@given(
    header=st.fixed_dictionaries(
        {},
        optional={
            name: st.sampled_from(["", "0", "-1", "4", "٣", "1e3", "9" * 25, "roth", "rotate"])
            for name in ("student", "rank", "num_entities", "num_relations", "graph", "taught")
        },
    )
)
def test_headers_of_saved_students(header: dict[str, str], tmp_path: Path) -> None:
    path = tmp_path / "student.safetensors"
    path.write_bytes(student(header))
    read_or_refuse(lambda: load_student(path))
