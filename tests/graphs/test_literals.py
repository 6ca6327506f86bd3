"""Numeric literals as a modality: columns computed by hand, and malformed lines."""

import lzma
import math
from pathlib import Path

import numpy as np
import pytest

from graphs import GraphWarning, load_graph
from graphs.entity_names import EntityNames
from graphs.literals import LEAST_ENTITIES, MOST_ATTRIBUTES, read_literals
from tests.graphs.folders import write

NAMES = EntityNames([f"e{i}" for i in range(30)])


def lines(attribute: str, values: dict[int, object]) -> str:
    return "".join(f"e{i}\t{attribute}\t{value}\n" for i, value in values.items())


def read(folder: Path, text: str) -> tuple[list[int], np.ndarray]:
    path = folder / "X_NumericalTriples.txt"
    path.write_text(text)
    modality = read_literals(path, NAMES)
    return modality.entities.tolist(), modality.features


def test_columns_by_hand(tmp_path: Path) -> None:
    # 20 entities with heights 0, 1, ..., 19, of which the last two are equal, and 25 with a date
    # that is the same for all: ranks 1, ..., 18, 19.5, 19.5.
    heights = {i: float(min(i, 18)) * 10**i for i in range(18)} | {18: 1e30, 19: 1e30}
    text = lines("height", heights) + lines("date", dict.fromkeys(range(2, 27), 1900))
    entities, features = read(tmp_path, text + lines("rare", {29: 1}))
    assert entities == list(range(27))
    ranks = np.array([*range(1, 19), 19.5, 19.5])
    expected = np.zeros((27, 4))
    expected[2:27, 1] = 1  # dates come first, since more entities have one; all are alike
    expected[:20, 2] = (ranks - 10.5) / math.sqrt(((ranks - 10.5) ** 2).mean())
    expected[:20, 3] = 1
    np.testing.assert_allclose(features, expected, atol=1e-6)
    assert features.dtype == np.float32


def test_several_values_count_by_their_mean(tmp_path: Path) -> None:
    values = dict.fromkeys(range(20), 5) | {3: 0}
    one = read(tmp_path, lines("a", values) + lines("a", {3: 20}))[1]
    other = read(tmp_path, lines("a", values | {3: 10}))[1]
    np.testing.assert_array_equal(one, other)


@pytest.mark.parametrize("form", ['"{}"^^<http://www.w3.org/2001/XMLSchema#double>', "{}", "{}e0"])
def test_forms_of_numbers(tmp_path: Path, form: str) -> None:
    plain = read(tmp_path, lines("a", dict(enumerate(range(20)))))
    other = read(tmp_path, lines("a", {i: form.format(i) for i in range(20)}))
    np.testing.assert_array_equal(plain[1], other[1])


def test_spaces_and_a_full_stop(tmp_path: Path) -> None:
    text = lines("a", dict(enumerate(range(20))))
    one, other = read(tmp_path, text), read(tmp_path, text.replace("\t", " ").replace("\n", " .\n"))
    np.testing.assert_array_equal(one[1], other[1])


def test_rare_attributes_and_strangers_are_left_out(tmp_path: Path) -> None:
    text = lines("a", dict(enumerate(range(LEAST_ENTITIES - 1)))) + "stranger\ta\t7\n"
    entities, features = read(tmp_path, text)
    assert entities == []
    assert features.shape == (0, 0)


def test_the_most_frequent_attributes_are_kept(tmp_path: Path) -> None:
    text = "".join(lines(f"a{k}", dict.fromkeys(range(20 + k % 2), k)) for k in range(70))
    assert read(tmp_path, text)[1].shape == (21, 2 * MOST_ATTRIBUTES)


@pytest.mark.parametrize("line", ["e0\ta", "e0\ta\tb", "e0\ta\tnan", "e0\ta\tinf", "e0 a 1 2", ""])
def test_malformed_lines_are_named(tmp_path: Path, line: str) -> None:
    expected = r"NumericalTriples\.txt, line 2: expected an entity, an attribute and a number"
    with pytest.raises(ValueError, match=expected):
        read(tmp_path, f"e1\ta\t1\n{line}\n")


def test_a_folder_with_literals_has_a_numeric_modality(tmp_path: Path) -> None:
    rows = "".join(f"e{i}\tr\te0\n" for i in range(30))
    folder = write(tmp_path / "toy", {"train.tsv": rows, "valid.tsv": "", "test.tsv": ""})
    path = folder / "FB15K_NumericalTriples.txt.xz"
    path.write_bytes(lzma.compress(lines("a", dict(enumerate(range(20)))).encode()))
    assert load_graph(folder).modalities["numeric"].features.shape == (20, 2)
    path.write_bytes(lzma.compress(lines("a", {0: 1}).encode()))
    with pytest.warns(GraphWarning, match=r"Triples\.txt\.xz: features of 0 of 30 entities"):
        assert load_graph(folder).modalities == {}
    (folder / "modalities").mkdir()
    np.save(folder / "modalities" / "numeric.npy", np.ones((30, 3), dtype=np.float32))
    assert load_graph(folder).modalities["numeric"].width == 3
