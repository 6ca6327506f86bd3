"""Graphs from folders and names: what is read, what is refused and in which words."""

import io
import json
import re
import warnings
import zipfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphs.formats.native
import graphs.loading
from graphs import (
    GraphWarning,
    Modality,
    MultimodalGraph,
    PlantedSpec,
    describe,
    load_graph,
    planted_graph,
    save_graph,
)

NATIVE = {
    "entities.tsv": "id\tkey\ttype\tname\n0\tc:fr\tcountry\tFrance\n1\tc:de\tcountry\tGermany\n"
    "2\tp:paris\tcity\tParis\n",
    "relations.tsv": "id\tname\n0\tborders\n1\tcapital_of\n",
    "train.tsv": "0\t0\t1\n2\t1\t0\n",
    "valid.tsv": "1\t0\t0\n",
    "test.tsv": "",
    "card.json": '{\n "licence": "CC0"\n}\n',
}
LABELLED = {
    "train.txt": "paris\tcapital_of\tfrance\nfrance\tborders\tgermany\n",
    "valid.txt": "germany\tborders\tfrance\n",
    "test.txt": "berlin\tcapital_of\tgermany\n",
}


def write(folder: Path, files: dict[str, str]) -> Path:
    folder.mkdir(exist_ok=True)
    for name, text in files.items():
        (folder / name).write_bytes(text.encode())
    return folder


def write_modality(folder: Path, name: str = "text", **arrays: np.ndarray) -> Path:
    (folder / "modalities").mkdir(exist_ok=True)
    np.savez(folder / "modalities" / f"{name}.npz", **arrays)
    return folder


def assert_equal_graphs(one: MultimodalGraph, other: MultimodalGraph) -> None:
    assert one.name == other.name
    assert one.entity_labels == other.entity_labels
    assert one.relation_labels == other.relation_labels
    assert one.metadata == other.metadata
    for split in ("train", "valid", "test"):
        np.testing.assert_array_equal(one.triples[split], other.triples[split])
    assert set(one.modalities) == set(other.modalities)
    for name, modality in one.modalities.items():
        np.testing.assert_array_equal(modality.entities, other.modalities[name].entities)
        assert modality.features.tobytes() == other.modalities[name].features.tobytes()
    for attribute in ("thumbnails", "thumbnail_entities", "planted_mask"):
        mine, theirs = getattr(one, attribute), getattr(other, attribute)
        assert (mine is None) == (theirs is None)
        if mine is not None:
            np.testing.assert_array_equal(mine, theirs)
            assert mine.dtype == theirs.dtype


class TestNative:
    def test_everything_is_read(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        # Rows out of order and of other dtypes: they come back ascending, int64 and float32.
        features = np.array([[2.0, 2.5], [0.0, 0.5]], dtype=np.float16)
        write_modality(folder, entities=np.array([2, 0], dtype=np.uint8), features=features)
        rgb = np.arange(2 * 2 * 2 * 3, dtype=np.uint8).reshape(2, 2, 2, 3)
        np.savez(folder / "thumbnails.npz", entities=np.array([1, 0]), rgb=rgb)
        graph = load_graph(folder)
        assert graph.name == "toy"
        assert graph.entity_labels == ("France", "Germany", "Paris")
        assert graph.relation_labels == ("borders", "capital_of")
        assert graph.triples["train"].tolist() == [[0, 0, 1], [2, 1, 0]]
        assert graph.triples["valid"].tolist() == [[1, 0, 0]]
        assert graph.triples["test"].shape == (0, 3)
        assert graph.modalities["text"].entities.tolist() == [0, 2]
        assert graph.modalities["text"].features.tolist() == [[0.0, 0.5], [2.0, 2.5]]
        assert graph.modalities["text"].features.dtype == np.float32
        assert graph.thumbnail_entities is not None
        assert graph.thumbnail_entities.tolist() == [0, 1]
        np.testing.assert_array_equal(graph.thumbnails, rgb[::-1])
        assert graph.metadata == {
            "licence": "CC0",
            "entity_types": ["country", "country", "city"],
            "entity_keys": ["c:fr", "c:de", "p:paris"],
        }

    def test_windows_line_ends_byte_order_marks_and_odd_names(self, tmp_path: Path) -> None:
        files = {name: text.replace("\n", "\r\n") for name, text in NATIVE.items()}
        files["entities.tsv"] = "\ufeff" + files["entities.tsv"].replace("Paris", "Pa\u2028ris")
        files["train.tsv"] = files["train.tsv"].removesuffix("\r\n")
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels == ("France", "Germany", "Pa\u2028ris")
        assert graph.triples["train"].tolist() == [[0, 0, 1], [2, 1, 0]]

    def test_arrays_are_read_only(self, tmp_path: Path) -> None:
        folder = write_modality(
            write(tmp_path / "toy", NATIVE), entities=np.array([0]), features=np.ones((1, 2))
        )
        for graph in (load_graph(folder), load_graph("planted")):
            modality = graph.modalities["text"]
            for array in (*graph.triples.values(), modality.entities, modality.features):
                with pytest.raises(ValueError, match="read-only"):
                    array[...] = 0

    def test_an_empty_modality_is_one_that_all_lack(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        write_modality(folder, entities=np.zeros(0, np.int64), features=np.zeros((0, 5)))
        assert load_graph(folder).modalities["text"].width == 5

    @pytest.mark.parametrize(
        ("name", "old", "new", "line", "expected"),
        [
            ("entities.tsv", "key\ttype", "type\tkey", 1, r"expected the header"),
            ("entities.tsv", NATIVE["entities.tsv"], "", 1, r"expected the header"),
            ("entities.tsv", "1\tc:de", "2\tc:de", 3, r"expected id 1, got '2'"),
            ("entities.tsv", "1\tc:de", "01\tc:de", 3, r"expected id 1, got '01'"),
            ("entities.tsv", "\tGermany", "", 3, r"expected 4 tab-separated fields"),
            ("entities.tsv", "p:paris", "c:fr", 4, r"a key that line 2 does not have"),
            ("relations.tsv", "id\tname\n", "", 1, r"expected the header"),
            ("relations.tsv", "1\tcap", "7\tcap", 3, r"expected id 1, got '7'"),
            ("train.tsv", "2\t1\t0", "2\t1", 2, r"expected 3 tab-separated fields"),
            ("train.tsv", "2\t1\t0", "2 1 0", 2, r"expected 3 tab-separated fields"),
            ("train.tsv", "2\t1\t0", "\n2\t1\t0", 2, r"expected 3 tab-separated fields"),
            ("train.tsv", "2\t1\t0", "3\t1\t0", 2, r"expected an entity id in \[0, 3\)"),
            ("train.tsv", "2\t1\t0", "2\t2\t0", 2, r"expected a relation id in \[0, 2\)"),
            ("train.tsv", "2\t1\t0", "2\t1\t-1", 2, r"expected an entity id"),
            ("train.tsv", "2\t1\t0", "2\t1\t1_0", 2, r"expected an entity id"),
            ("train.tsv", "2\t1\t0", "2\t1\t٢", 2, r"expected an entity id"),
            ("train.tsv", "2\t1\t0", "2\t1\t" + "9" * 40, 2, r"expected an entity id"),
            ("valid.tsv", "1\t0\t0", "France\tborders\tGermany", 1, r"expected an entity id"),
            ("card.json", '"CC0"', "CC0", 2, r"expected JSON"),
            ("card.json", NATIVE["card.json"], "[]", 1, r"expected a JSON object, got a list"),
        ],
    )
    def test_malformed_text_is_named_by_file_and_line(
        self, tmp_path: Path, name: str, old: str, new: str, line: int, expected: str
    ) -> None:
        assert old in NATIVE[name]
        files = {**NATIVE, name: NATIVE[name].replace(old, new, 1)}
        folder = write(tmp_path / "toy", files)
        with pytest.raises(ValueError, match=expected) as error:
            load_graph(folder)
        assert str(error.value).startswith(f"{folder / name}, line {line}: ")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("card", ['{"a": NaN}', "[" * 100_000, '{"planted_mask": 3}'])
    def test_a_card_beyond_json_is_named_by_file(self, tmp_path: Path, card: str) -> None:
        folder = write(tmp_path / "toy", {**NATIVE, "card.json": card})
        with pytest.raises(ValueError, match=r"card\.json: expected"):
            load_graph(folder)

    def test_a_planted_mask_must_fit(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", {**NATIVE, "card.json": '{"planted_mask": [[1], [0]]}'})
        with pytest.raises(ValueError, match=r"planted_mask of shape \(4, 0\), got \(2, 1\)"):
            load_graph(folder)

    @pytest.mark.parametrize("name", ["relations.tsv", "train.tsv", "valid.tsv", "test.tsv"])
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=rf"{re.escape(name)} is missing, expected lines of"):
            load_graph(folder)

    def test_text_that_is_not_utf8_is_named_by_line(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        (folder / "train.tsv").write_bytes(b"0\t0\t1\n\xff\t1\t0\n")
        with pytest.raises(ValueError, match=r"train\.tsv, line 2: expected UTF-8"):
            load_graph(folder)


def npy(header: str, data: bytes) -> bytes:
    """An npy member with any header at all."""
    padded = header.encode() + b"\n"
    return b"\x93NUMPY\x01\x00" + len(padded).to_bytes(2, "little") + padded + data


class TestArrayFiles:
    @pytest.mark.parametrize(
        ("arrays", "expected"),
        [
            ({"entities": [0]}, r"expected an array 'features'"),
            ({"features": [[1.0]]}, r"expected an array 'entities'"),
            ({"entities": [0, 1], "features": [[1.0]]}, r"'features': expected shape \(2, any\)"),
            ({"entities": [[0]], "features": [[1.0]]}, r"'entities': expected shape \(any\)"),
            ({"entities": [0], "features": [1.0]}, r"'features': expected shape \(1, any\)"),
            ({"entities": [0.5], "features": [[1.0]]}, r"'entities': expected numpy kind i or u"),
            ({"entities": [True], "features": [[1.0]]}, r"'entities': expected numpy kind i or u"),
            ({"entities": [0], "features": [["1"]]}, r"'features': expected numpy kind f"),
            ({"entities": [3], "features": [[1.0]]}, r"row 0: expected an entity id in \[0, 3\)"),
            ({"entities": [0, -1], "features": [[1.0]] * 2}, r"row 1: expected an entity id"),
            ({"entities": [1, 0, 1], "features": [[1.0]] * 3}, r"row 2: .* than that of row 0"),
            ({"entities": [1, 0], "features": [[1.0], [np.nan]]}, r"row 1: expected finite"),
            ({"entities": [1, 0], "features": [[1.0], [1e300]]}, r"row 1: expected finite"),
        ],
    )
    def test_wrong_arrays_are_named(
        self, tmp_path: Path, arrays: dict[str, list[object]], expected: str
    ) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        write_modality(folder, **{name: np.array(value) for name, value in arrays.items()})
        with pytest.raises(ValueError, match=expected) as error:
            load_graph(folder)
        assert str(folder / "modalities" / "text.npz") in str(error.value)

    def test_pickles_are_not_opened(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)

        class Bomb:
            def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
                return Path.touch, (tmp_path / "exploded",)  # type: ignore[return-value]

        features = np.array([[Bomb()]], dtype=object)
        write_modality(folder, entities=np.array([0]), features=features)
        with pytest.raises(ValueError, match="'features': expected numpy kind f, got object"):
            load_graph(folder)
        assert not (tmp_path / "exploded").exists()

    @pytest.mark.parametrize(
        ("shape", "data", "expected"),
        [
            ("(1, 1000000000000)", b"\0" * 64, "bytes promised by a file of"),
            ("(1, 15000000)", b"\0" * 64, "expected 60000000 bytes of data"),
            ("(1, 2)", b"\0" * 9, "expected 8 bytes of data"),
            ("(1, -2)", b"", "expected shape"),
            ("(1, 'a')", b"", "cannot be read|not valid"),
        ],
    )
    def test_headers_that_lie_allocate_nothing(
        self, tmp_path: Path, shape: str, data: bytes, expected: str
    ) -> None:
        folder = write_modality(write(tmp_path / "toy", NATIVE))
        header = f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}"
        entities = io.BytesIO()
        np.save(entities, np.array([0]))
        with zipfile.ZipFile(folder / "modalities" / "text.npz", "w") as archive:
            archive.writestr("entities.npy", entities.getvalue())
            archive.writestr("features.npy", npy(header, data))
        with pytest.raises(ValueError, match=expected):
            load_graph(folder)

    def test_a_bomb_is_not_inflated(self, tmp_path: Path) -> None:
        folder = write_modality(write(tmp_path / "toy", NATIVE))
        header = "{'descr': '<f4', 'fortran_order': False, 'shape': (1, 80000000)}"
        entities = io.BytesIO()
        np.save(entities, np.array([0]))
        path = folder / "modalities" / "text.npz"
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr("entities.npy", entities.getvalue())
            with archive.open("features.npy", "w") as member:
                member.write(npy(header, b""))
                for _ in range(320):
                    member.write(bytes(1_000_000))
        with pytest.raises(ValueError, match="320000000 bytes promised by a file of"):
            load_graph(folder)

    @settings(deadline=None, max_examples=150)
    @given(position=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
    def test_a_damaged_archive_is_read_right_or_refused(
        self, tmp_path_factory: pytest.TempPathFactory, position: float, byte: int, cut: bool
    ) -> None:
        folder = write(tmp_path_factory.mktemp("toy"), NATIVE)
        features = np.arange(6, dtype=np.float32).reshape(3, 2)
        write_modality(folder, entities=np.arange(3), features=features)
        path = folder / "modalities" / "text.npz"
        data = bytearray(path.read_bytes())
        place = int(position * len(data))
        if cut:
            del data[place:]
        else:
            data[place] = byte
        path.write_bytes(data)
        complaint = ""
        try:
            read = load_graph(folder).modalities["text"].features
        except ValueError as error:
            read, complaint = features, str(error)
        np.testing.assert_array_equal(read, features)
        assert not complaint or str(path) in complaint

    def test_modality_names_are_safe_file_names(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        write_modality(folder, "te xt", entities=np.array([0]), features=np.ones((1, 1)))
        with pytest.raises(ValueError, match=r"te xt\.npz: expected a name of letters"):
            load_graph(folder)

    def test_thumbnails_are_bytes(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        rgb = np.zeros((1, 2, 2, 3), dtype=np.uint16)
        np.savez(folder / "thumbnails.npz", entities=np.array([1]), rgb=rgb)
        with pytest.raises(ValueError, match=r"thumbnails\.npz, array 'rgb': expected uint8"):
            load_graph(folder)


class TestLabelled:
    @pytest.mark.parametrize("extension", ["txt", "tsv"])
    def test_ids_follow_sorted_labels(self, tmp_path: Path, extension: str) -> None:
        files = {name.replace("txt", extension): text for name, text in LABELLED.items()}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels == ("berlin", "france", "germany", "paris")
        assert graph.relation_labels == ("borders", "capital_of")
        assert graph.triples["train"].tolist() == [[3, 1, 1], [1, 0, 2]]
        assert graph.triples["valid"].tolist() == [[2, 0, 1]]
        assert graph.triples["test"].tolist() == [[0, 1, 2]]

    def test_modalities_by_label_and_by_id(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", LABELLED)
        features = np.array([[3.0], [0.0]], dtype=np.float32)
        write_modality(folder, "text", entities=np.array(["paris", "berlin"]), features=features)
        write_modality(folder, "image", entities=np.array([3, 0]), features=features)
        graph = load_graph(folder)
        for modality in graph.modalities.values():
            assert modality.entities.tolist() == [0, 3]
            assert modality.features.tolist() == [[0.0], [3.0]]

    def test_features_of_strangers_are_left_out_with_a_warning(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", LABELLED)
        features = np.array([[1.0], [2.0], [3.0]], dtype=np.float32)
        write_modality(folder, entities=np.array(["rome", "paris", "oslo"]), features=features)
        with pytest.warns(GraphWarning, match="left out 2 of 3 entities"):
            graph = load_graph(folder)
        assert graph.modalities["text"].entities.tolist() == [3]
        assert graph.modalities["text"].features.tolist() == [[2.0]]

    def test_repeated_labels_are_refused(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", LABELLED)
        write_modality(folder, entities=np.array(["paris", "paris"]), features=np.ones((2, 1)))
        with pytest.raises(ValueError, match="row 1: expected another entity than that of row 0"):
            load_graph(folder)

    def test_a_short_line_is_named(self, tmp_path: Path) -> None:
        files = {**LABELLED, "test.txt": "berlin\tcapital_of\tgermany\nrome\tcapital_of\n"}
        with pytest.raises(ValueError, match=r"test\.txt, line 2: expected 3 tab-separated"):
            load_graph(write(tmp_path / "toy", files))


class TestNames:
    def test_a_graph_is_returned_as_it_is(self) -> None:
        graph = planted_graph()
        assert load_graph(graph) is graph

    def test_planted_by_name_with_options(self) -> None:
        graph = load_graph("planted:entities=800,relations=8,noise=0.2,seed=3")
        expected = planted_graph(PlantedSpec(entities=800, relations=8, noise=0.2, seed=3))
        assert_equal_graphs(graph, expected)
        assert_equal_graphs(load_graph("planted"), planted_graph())

    def test_levels_have_names(self) -> None:
        graph = load_graph("planted-hard:seed=2")
        assert graph.metadata["spec"]["noise"] == 1.0
        assert graph.metadata["spec"]["seed"] == 2
        assert graph.name == "planted-hard"
        assert {load_graph(f"planted-{level}").name for level in ("easy", "medium")} == {
            "planted-easy",
            "planted-medium",
        }

    def test_names_are_loaded_once(self) -> None:
        assert load_graph("planted:seed=4") is load_graph("planted:seed=4")

    @pytest.mark.parametrize(
        ("name", "complaint"),
        [
            ("planted:nois=1", "planted: unknown 'nois'; did you mean 'noise'"),
            ("planted:noise", "expected distinct key=value options, got 'noise'"),
            ("planted:seed=1,seed=2", "expected distinct key=value options, got 'seed=2'"),
            ("planted:seed=x", "seed: expected a value of type int, got 'x'"),
            ("planted:noise=-1", "noise: expected at least 0"),
            ("emoji:seed=1", "'emoji' takes no options, got seed"),
        ],
    )
    def test_bad_options_are_named(self, name: str, complaint: str) -> None:
        with pytest.raises(ValueError, match=complaint):
            load_graph(name)

    @pytest.mark.parametrize("name", ["emojy", "plantd:seed=1"])
    def test_unknown_names_get_a_suggestion(self, name: str) -> None:
        meant = "emoji" if name.startswith("e") else "planted"
        with pytest.raises(FileNotFoundError, match=f"did you mean '{meant}'"):
            load_graph(name)

    def test_a_folder_of_no_known_format_hears_them_all(self, tmp_path: Path) -> None:
        (tmp_path / "notes.md").write_text("x")
        with pytest.raises(ValueError, match=r"one of the formats native .*openke .*labelled"):
            load_graph(tmp_path)
        with pytest.raises(ValueError, match=r"notes\.md: expected the folder of a graph"):
            load_graph(tmp_path / "notes.md")

    @pytest.mark.skipif(
        not (Path(graphs.loading.__file__).parent / "data" / "emoji" / "entities.tsv").exists(),
        reason="the emoji graph has not been built here",
    )
    def test_emoji_comes_with_the_package(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            graph = load_graph("emoji")
        assert graph.name == "emoji"
        assert set(graph.split_overlaps().values()) == {0}
        assert len(graph.metadata["entity_types"]) == graph.num_entities
        assert graph.modalities


class TestSave:
    @pytest.mark.parametrize("spec", [PlantedSpec(), PlantedSpec(missing=0.5, modalities=("x",))])
    def test_round_trip(self, tmp_path: Path, spec: PlantedSpec) -> None:
        rng = np.random.default_rng(0)
        graph = planted_graph(spec)
        keys = [f"key{entity}" for entity in range(graph.num_entities)]
        graph = replace(
            graph,
            name="not the folder's",
            metadata={**graph.metadata, "entity_keys": keys, "note": "ä\n\u2028"},
            thumbnails=rng.integers(0, 256, (2, 4, 5, 3), dtype=np.uint8),
            thumbnail_entities=np.array([3, 9]),
        )
        save_graph(graph, tmp_path / "saved")
        assert_equal_graphs(load_graph(tmp_path / "saved"), graph)
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]

    def test_equal_graphs_are_equal_files(self, tmp_path: Path) -> None:
        for name in ("one", "two"):
            save_graph(planted_graph(), tmp_path / name)
        for path in (tmp_path / "one").rglob("*.*"):
            other = tmp_path / "two" / path.relative_to(tmp_path / "one")
            assert path.read_bytes() == other.read_bytes()

    def test_without_types_and_keys_it_makes_plain_ones(self, tmp_path: Path) -> None:
        graph = replace(planted_graph(), metadata={}, modalities={}, planted_mask=None)
        save_graph(graph, tmp_path / "saved")
        loaded = load_graph(tmp_path / "saved")
        assert loaded.metadata["entity_types"][:2] == ["entity", "entity"]
        assert loaded.metadata["entity_keys"][:2] == ["0", "1"]

    @pytest.mark.parametrize(
        ("change", "complaint"),
        [
            ({"relation_labels": ("a\tb",) * 8}, r"relations\.tsv: 'a\\tb' holds a tab"),
            ({"relation_labels": ("a\r",) * 8}, r"relations\.tsv: 'a\\r' holds a tab or a line"),
            ({"metadata": {"a": object()}}, r"metadata: expected JSON types"),
            ({"metadata": {"a": float("inf")}}, r"metadata: expected JSON types"),
            ({"metadata": {"name": "x"}}, r"key 'name' is reserved"),
            ({"metadata": {"entity_types": ["x"]}}, r"expected 600 entity_types, got 1"),
        ],
    )
    def test_what_cannot_be_saved_leaves_nothing(
        self, tmp_path: Path, change: dict[str, object], complaint: str
    ) -> None:
        with pytest.raises(ValueError, match=complaint):
            save_graph(replace(planted_graph(), **change), tmp_path / "saved")  # type: ignore[arg-type]
        assert list(tmp_path.iterdir()) == []

    def test_bad_modality_names_leave_nothing(self, tmp_path: Path) -> None:
        modality = Modality(np.array([0]), np.ones((1, 1), dtype=np.float32))
        graph = replace(planted_graph(), modalities={"../up": modality}, planted_mask=None)
        with pytest.raises(ValueError, match="expected letters"):
            save_graph(graph, tmp_path / "saved")
        assert list(tmp_path.iterdir()) == []

    def test_a_folder_in_use_is_not_overwritten(self, tmp_path: Path) -> None:
        (tmp_path / "mine").write_text("x")
        with pytest.raises(FileExistsError, match="is not empty"):
            save_graph(planted_graph(), tmp_path)
        assert (tmp_path / "mine").read_text() == "x"

    def test_a_folder_that_appears_meanwhile_is_not_overwritten(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def write_and_lose(*arguments: object) -> None:
            (tmp_path / "saved").mkdir(exist_ok=True)
            (tmp_path / "saved" / "mine").write_text("x")

        monkeypatch.setattr(graphs.formats.native, "write_table", write_and_lose)
        with pytest.raises(FileExistsError, match="is not empty"):
            save_graph(planted_graph(), tmp_path / "saved")
        assert [path.name for path in (tmp_path / "saved").iterdir()] == ["mine"]
        assert [path.name for path in tmp_path.iterdir()] == ["saved"]


class TestOverlapAndCard:
    OVERLAPPING = {  # noqa: RUF012
        **NATIVE,
        "valid.tsv": "0\t0\t1\n0\t0\t1\n2\t0\t2\n",
        "test.tsv": "0\t0\t1\n2\t0\t2\n",
    }

    def test_overlap_is_never_silent(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", self.OVERLAPPING)
        expected = r"'toy'.*train/valid 1, train/test 1, valid/test 2; sizes train 2, valid 3"
        with pytest.warns(GraphWarning, match=expected) as caught:
            load_graph(folder)
        assert caught[0].filename == __file__

    def test_the_card_counts_by_hand(self, tmp_path: Path) -> None:
        files = {
            **self.OVERLAPPING,
            "entities.tsv": NATIVE["entities.tsv"] + "3\tc:no\tcity\tOslo\n",
            "relations.tsv": NATIVE["relations.tsv"] + "2\ttwin_of\n",
            "test.tsv": "0\t0\t1\n2\t2\t3\n",
        }
        folder = write(tmp_path / "toy", files)
        write_modality(folder, entities=np.array([0]), features=np.ones((1, 7)))
        with pytest.warns(GraphWarning):
            graph = load_graph(folder)
        assert describe(graph).splitlines() == [
            "toy: 4 entities, 3 relations, 7 triples",
            "  train: 2 triples",
            "  valid: 3 triples, 1 repeated, 0 of 3 entities and 0 of 1 relations are not in train "
            "(0.0% of the queries)",
            "  test: 2 triples, 1 of 4 entities and 1 of 2 relations are not in train "
            "(50.0% of the queries)",
            "  shared: train/valid 1, train/test 1, valid/test 1",
            "  leaks into valid: 0.0% have a reverse in train, 0.0% another relation between the "
            "same entities",
            "  leaks into test: 0.0% have a reverse in train, 0.0% another relation between the "
            "same entities",
            "  text: 1 entities (25.0%), 7 columns",
            "  degree in train: mean 1.0, 95 % at most 2, largest 2",
            "  hubs: France 2, Germany 1, Paris 1, Oslo 0",
        ]

    def test_the_card_of_a_planted_graph_tells_who_teaches(self) -> None:
        graph = planted_graph()
        card = describe(graph)
        for relation in range(graph.num_relations):
            assert graph.planted_mask is not None
            teacher = sorted(graph.modalities)[int(graph.planted_mask[relation].argmax())]
            assert f"{graph.relation_labels[relation]}: taught by {teacher}\n" in card + "\n"

    def test_saved_cards_are_json(self, tmp_path: Path) -> None:
        save_graph(planted_graph(), tmp_path / "saved")
        card = json.loads((tmp_path / "saved" / "card.json").read_text())
        assert card["name"] == "planted"
        assert len(card["planted_mask"]) == 16
