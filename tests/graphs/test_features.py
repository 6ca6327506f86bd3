"""Features in every kind of file: read alike, checked, and refused in one sentence."""

import io
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file

from graphs import GraphWarning, Modality, load_graph, save_graph
from graphs.entity_names import EntityNames
from graphs.feature_files import FEATURE_FORMATS
from tests.graphs.folders import ENTITIES, MYGO, NATIVE, OPENKE, write

WHOLE = np.arange(10, dtype=np.float32).reshape(5, 2) + 1
SOME = np.array([3, 0])  # Paris and Berlin, not in order
NAMES = ["Paris", "Berlin"]


def npz(**arrays: object) -> Callable[[Path], None]:
    return lambda path: np.savez(path, **{k: np.asarray(v) for k, v in arrays.items()})  # type: ignore[arg-type]


def npy(array: np.ndarray) -> Callable[[Path], None]:
    return lambda path: np.save(path, array)


def pt(content: object) -> Callable[[Path], None]:
    return lambda path: torch.save(content, path)


def safetensors(**arrays: np.ndarray) -> Callable[[Path], None]:
    return lambda path: save_file({k: torch.tensor(v) for k, v in arrays.items()}, path)


def h5(**arrays: object) -> Callable[[Path], None]:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, value in arrays.items():
                file[name] = value

    return make


def vectors(rows: np.ndarray = WHOLE[SOME]) -> dict[str, torch.Tensor]:
    return dict(zip(NAMES, torch.tensor(rows), strict=True))


WHOLE_FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npy": ("npy", npy(WHOLE)),
    "npy of halves": ("npy", npy(WHOLE.astype(np.float16))),
    "npy by columns": ("npy", npy(np.asfortranarray(WHOLE))),
    "npz": ("npz", npz(features=WHOLE)),
    "npz with every id": ("npz", npz(entities=np.arange(5), features=WHOLE)),
    "npz backwards": ("npz", npz(entity_id=np.arange(5)[::-1], feat=WHOLE[::-1])),
    "safetensors": ("safetensors", safetensors(features=WHOLE)),
    "safetensors of any name": ("safetensors", safetensors(x=WHOLE)),
    "safetensors bfloat16": (
        "safetensors",
        lambda path: save_file({"x": torch.tensor(WHOLE).bfloat16()}, path),
    ),
    "pt": ("pt", pt(torch.tensor(WHOLE))),
    "pth of a parameter": ("pth", pt(torch.nn.Parameter(torch.tensor(WHOLE)))),
    "pt of any name": ("pt", pt({"emb": torch.tensor(WHOLE)})),
    "pt by id": ("pt", pt({i: torch.tensor(row) for i, row in enumerate(WHOLE)})),
    "h5": ("h5", h5(features=WHOLE)),
    "hdf5 of any name": ("hdf5", h5(x=WHOLE)),
}
SOME_FILES: dict[str, tuple[str, Callable[[Path], None]]] = {
    "npz by id": ("npz", npz(entities=SOME, features=WHOLE[SOME])),
    "npz by name": ("npz", npz(entities=NAMES, features=WHOLE[SOME])),
    "npz of another builder": ("npz", npz(entity_id=SOME, pca128=WHOLE[SOME])),
    "npy with zeros": ("npy", npy(WHOLE * np.isin(np.arange(5), SOME)[:, None])),
    "safetensors": ("safetensors", safetensors(entities=SOME, features=WHOLE[SOME])),
    "pt": ("pt", pt({"entities": torch.tensor(SOME), "features": torch.tensor(WHOLE[SOME])})),
    "pt by list": ("pt", pt({"entities": [3, 0], "features": torch.tensor(WHOLE[SOME])})),
    "pt by names": ("pt", pt({"entities": NAMES, "features": torch.tensor(WHOLE[SOME])})),
    "pt of vectors": ("pth", pt(vectors())),
    "pt of several each": (
        "pt",
        pt({name: torch.stack([row - 1, row + 1]) for name, row in vectors().items()}),
    ),
    "h5 of vectors": ("h5", h5(**{n: WHOLE[i] for n, i in zip(NAMES, SOME, strict=True)})),
    "h5 of sentences": ("h5", h5(Paris=WHOLE[[3, 3]], Berlin=WHOLE[[0, 0, 0]])),
    "h5 by id": ("h5", h5(entities=SOME, features=WHOLE[SOME])),
    "h5 by name": ("h5", h5(ids=NAMES, features=WHOLE[SOME])),
}


def load(folder: Path, ending: str, make: Callable[[Path], None], name: str = "image") -> Modality:
    write(folder, OPENKE)
    (folder / "modalities").mkdir()
    make(folder / "modalities" / f"{name}.{ending}")
    return load_graph(folder).modalities[name]


@pytest.mark.parametrize("kind", WHOLE_FILES)
def test_a_row_for_every_entity(tmp_path: Path, kind: str) -> None:
    modality = load(tmp_path / "toy", *WHOLE_FILES[kind])
    assert modality.entities.tolist() == [0, 1, 2, 3, 4]
    assert modality.features.dtype == np.float32
    np.testing.assert_array_equal(modality.features, WHOLE)


@pytest.mark.parametrize("kind", SOME_FILES)
def test_rows_for_some(tmp_path: Path, kind: str) -> None:
    modality = load(tmp_path / "toy", *SOME_FILES[kind])
    assert modality.entities.tolist() == [0, 3]
    assert modality.features.dtype == np.float32
    np.testing.assert_array_equal(modality.features, WHOLE[[0, 3]])


def test_every_ending_is_covered() -> None:
    endings = {f".{ending}" for ending, _ in (WHOLE_FILES | SOME_FILES).values()}
    assert endings == set(FEATURE_FORMATS)


class Bomb:
    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        return sys.exit, ("exploded",)  # type: ignore[return-value]


def lying_npy(path: Path) -> None:
    header = b"{'descr': '<f4', 'fortran_order': False, 'shape': (5, 1000000000000)}\n"
    path.write_bytes(b"\x93NUMPY\x01\x00" + len(header).to_bytes(2, "little") + header + bytes(64))


def hollow_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**12, 10), "f4", chunks=(1024, 10))


def linked_h5(path: Path) -> None:
    with h5py.File(path.with_name("other.h5.bin"), "w") as other:
        other["x"] = WHOLE
    with h5py.File(path, "w") as file:
        file["features"] = h5py.ExternalLink("other.h5.bin", "x")


def virtual_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        layout = h5py.VirtualLayout(shape=(5, 2), dtype="f4")
        layout[...] = h5py.VirtualSource(str(path.with_name("o.bin")), "x", shape=(5, 2))
        file.create_virtual_dataset("features", layout)


def text_file(path: Path) -> None:
    path.write_text("no features")


def spoilt(row: int, value: float) -> np.ndarray:
    features = WHOLE.astype(np.float64)
    features[row, 1] = value
    return features


@pytest.mark.parametrize(
    ("ending", "make", "expected"),
    [
        ("npy", npy(WHOLE[:4]), r"expected shape \(5, any\), got \(4, 2\)"),
        ("npy", npy(np.arange(5.0)), r"expected shape \(5, any\), got \(5,\)"),
        ("npy", npy(WHOLE.astype(int)), "expected numpy kind f, got int64"),
        ("npy", npy(np.array([[Bomb()]])), "expected numpy kind f, got object"),
        ("npy", npy(spoilt(2, np.nan)), "row 2: expected finite float32 features .* got nan"),
        ("npy", npy(spoilt(3, -np.inf)), "row 3: expected finite float32 features .* got -inf"),
        ("npy", npy(spoilt(1, -2e6)), r"row 1: .* of at most 1e\+06, got -2e\+06"),
        ("npy", npy(spoilt(1, 1e300)), r"row 1: expected finite"),
        ("npy", lying_npy, "20000000000000 bytes promised by a file of"),
        ("npy", text_file, "image.npy"),
        ("npz", npz(features=WHOLE[:4]), "each of the 5 entities, got 4 rows"),
        ("npz", npz(pictures=WHOLE), "expected an array 'entities' and an array 'features'"),
        ("npz", npz(entities=[0], features=WHOLE), r"expected shape \(1, any\), got \(5, 2\)"),
        ("npz", npz(entities=[5], features=WHOLE[:1]), r"row 0: expected an entity id in \[0, 5\)"),
        ("npz", npz(entities=[3, 3], features=WHOLE[:2]), "row 1: .* than that of row 0"),
        ("npz", npz(entities=["Paris", "Paris"], features=WHOLE[:2]), "row 1: .* that of row 0"),
        ("npz", npz(entities=np.array([2**64 - 1]), features=WHOLE[:1]), "expected ids, got 1844"),
        ("safetensors", text_file, "image.safetensors"),
        ("safetensors", safetensors(features=WHOLE[:4]), "one row for each of the 5 entities"),
        ("safetensors", safetensors(features=WHOLE.astype(int)), "matrix of float .* got int64"),
        (
            "safetensors",
            safetensors(entities=WHOLE, features=WHOLE),
            "'entities': expected a list of ids, got float32",
        ),
        (
            "safetensors",
            safetensors(entities=SOME, features=WHOLE),
            "one entity per row, got 2 entities and 5 rows",
        ),
        ("pt", pt(Bomb()), "expected tensors, lists and dicts only, which hold no code"),
        ("pt", pt([1, 2]), "expected a tensor, or tensors by entity, got a list"),
        ("pt", pt({}), "expected features by entity"),
        ("pt", pt({"a": torch.ones(2), 1: torch.ones(2)}), "all by name or all by id"),
        ("pt", pt({"a": torch.ones(2), "b": torch.ones(3)}), "'b': expected 2 columns as before"),
        ("pt", pt({"a": "b"}), "'a': expected a dense tensor, got a str"),
        ("pt", pt({"a": torch.ones(2, 2).to_sparse()}), "'a': expected a dense tensor"),
        ("pt", pt({"a": torch.ones(0)}), "'a': expected a vector or a matrix of float features"),
        ("pt", pt({"Paris": torch.arange(8)}), "float features, got int64"),  # MyGO's tokens
        ("pt", pt(torch.zeros(1).expand(10**6, 10**6)), "4000000000000 bytes promised by a file"),
        ("h5", text_file, "image.h5"),
        ("h5", hollow_h5, "40000000000000 bytes promised by a file of"),
        ("h5", linked_h5, "'features': expected a dataset of this file, got a link"),
        ("h5", virtual_h5, "'features': expected a dataset of this file"),
        ("h5", lambda path: h5py.File(path, "w").create_group("Paris"), "expected a dataset"),
        ("h5", h5(Paris=np.zeros(2, [("a", "f4")])), "expected numbers or names"),
        ("h5", h5(features=WHOLE[:3]), "one row for each of the 5 entities, got 3"),
    ],
)
def test_what_is_refused(
    tmp_path: Path, ending: str, make: Callable[[Path], None], expected: str
) -> None:
    folder = write(tmp_path / "toy", OPENKE)
    (folder / "modalities").mkdir()
    path = folder / "modalities" / f"image.{ending}"
    make(path)
    with pytest.raises(ValueError, match=expected) as error:
        load_graph(folder)
    assert str(error.value).startswith(str(path))
    assert "\n" not in str(error.value)


@settings(deadline=None, max_examples=60)
@given(place=st.floats(0, 1, exclude_max=True), byte=st.integers(0, 255), cut=st.booleans())
@pytest.mark.parametrize("ending", ["npy", "pt", "safetensors", "h5"])
def test_damaged_files_are_read_or_refused_in_one_sentence(
    tmp_path_factory: pytest.TempPathFactory, ending: str, place: float, byte: int, cut: bool
) -> None:
    folder = write(tmp_path_factory.mktemp("toy"), OPENKE)
    (folder / "modalities").mkdir()
    path = folder / "modalities" / f"image.{ending}"
    makers = {"npy": npy(WHOLE), "pt": pt(torch.tensor(WHOLE)), "h5": h5(features=WHOLE)}
    makers.get(ending, safetensors(features=WHOLE))(path)
    data = bytearray(path.read_bytes())
    if cut:
        del data[int(place * len(data)) :]
    else:
        data[int(place * len(data))] = byte
    path.write_bytes(data)
    try:
        load_graph(folder)
    except ValueError as error:
        assert str(path) in str(error)  # noqa: PT017


class TestPlaces:
    @pytest.mark.parametrize(
        ("name", "modality"),
        [
            ("visual.pth", "image"),
            ("DB15K-visual.pth", "image"),
            ("MKG_W_img_BEIT_16-224.h5", "image"),
            ("img_features.pth", "image"),
            ("visual_features_ent_sorted.pt", "image"),
            ("flags_effnetlite0.npz", "image"),
            ("visual/wn18_imagenet_effnetlite0.npz", "image"),
            ("text_features.pth", "text"),
            ("embeddings/MKG-W-textual.pth", "text"),
            ("MKG_W_description_sentences.h5", "text"),
            ("numeric_features.pth", "numeric"),
            ("features/audio.npy", "audio"),
            ("video.safetensors", "video"),
        ],
    )
    def test_names_in_use_are_known(self, tmp_path: Path, name: str, modality: str) -> None:
        folder = write(tmp_path / "toy", OPENKE)
        path = folder / name
        path.parent.mkdir(exist_ok=True)
        makers = {".pth": "pt", ".pt": "pt", ".npz": "npz", ".npy": "npy", ".h5": "h5"}
        WHOLE_FILES[makers.get(path.suffix, "safetensors")][1](path)
        modalities = load_graph(folder).modalities
        assert list(modalities) == [modality]
        np.testing.assert_array_equal(modalities[modality].features, WHOLE)

    @pytest.mark.parametrize(
        "name",
        [
            "visual_features_rel.pt",
            "tokens/visual.pth",
            "visual_tokens.pth",
            "features.pth",
            "image_and_text.pt",
            "checkpoints/visual.pth",
            "visual.ckpt",
        ],
    )
    def test_other_files_are_let_alone(self, tmp_path: Path, name: str) -> None:
        folder = write(tmp_path / "toy", OPENKE)
        (folder / name).parent.mkdir(exist_ok=True)
        (folder / name).write_text("anything")
        assert load_graph(folder).modalities == {}

    def test_the_explicit_place_wins_and_anything_is_a_modality_there(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", MYGO)
        (folder / "modalities").mkdir()
        np.save(folder / "modalities" / "image.npy", WHOLE)
        np.save(folder / "modalities" / "smell-1.npy", WHOLE + 1)
        (folder / "modalities" / "notes.md").write_text("x")
        (folder / "visual.pth").write_text("not even read")
        modalities = load_graph(folder).modalities
        assert list(modalities) == ["image", "smell-1"]
        np.testing.assert_array_equal(modalities["image"].features, WHOLE)

    def test_two_explicit_files_of_one_name_are_refused(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", MYGO)
        (folder / "modalities").mkdir()
        np.save(folder / "modalities" / "image.npy", WHOLE)
        np.savez(folder / "modalities" / "image.npz", features=WHOLE)
        with pytest.raises(ValueError, match=r"image\.npz: expected one file .* 'image'"):
            load_graph(folder)

    def test_a_second_file_elsewhere_is_said(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", MYGO)
        np.save(folder / "img.npy", WHOLE)
        np.save(folder / "visual.npy", WHOLE + 1)
        with pytest.warns(GraphWarning, match=r"visual\.npy is not read, because img\.npy is the"):
            graph = load_graph(folder)
        np.testing.assert_array_equal(graph.modalities["image"].features, WHOLE)

    def test_little_coverage_is_no_modality_unless_asked_for(self, tmp_path: Path) -> None:
        entities = [f"e{i}" for i in range(200)]
        rows = "".join(f"{name}\tr\te0\n" for name in entities)
        folder = write(tmp_path / "toy", {"train.tsv": rows, "valid.tsv": "", "test.tsv": ""})
        np.savez(folder / "flags.npz", entities=["e7"], features=WHOLE[:1])
        expected = r"flags\.npz: features of 1 of 200 entities \(0\.50%\) are too few .* 1\.00%"
        with pytest.warns(GraphWarning, match=expected):
            assert load_graph(folder).modalities == {}
        for graph in (load_graph(folder, coverage=0.005), load_graph(f"{folder}:coverage=0")):
            assert len(graph.modalities["image"].entities) == 1
        np.savez(folder / "flags.npz", entities=["e7", "e8"], features=WHOLE[:2])
        assert len(load_graph(folder).modalities["image"].entities) == 2
        (folder / "modalities").mkdir()
        np.savez(folder / "modalities" / "image.npz", entities=["e7"], features=WHOLE[:1])
        assert len(load_graph(folder).modalities["image"].entities) == 1

    def test_features_of_strangers_alone_are_no_modality(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", MYGO)
        np.savez(folder / "visual.npz", entities=["Rome"], features=WHOLE[:1])
        with pytest.warns(GraphWarning, match=r"left out 1 of 1 entities|features of 0 of 5"):
            assert load_graph(folder, coverage=0).modalities == {}

    def test_hdf5_without_h5py_names_the_extra(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setitem(sys.modules, "h5py", None)
        with pytest.raises(ModuleNotFoundError, match=r"image\.h5: .*'dsom-env\[hdf5\]'"):
            load(tmp_path / "toy", "h5", text_file)

    def test_native_graphs_take_names_and_other_formats_too(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", NATIVE)
        (folder / "modalities").mkdir()
        torch.save(vectors(), folder / "modalities" / "image.pt")
        np.testing.assert_array_equal(
            load_graph(folder).modalities["image"].features, WHOLE[[0, 3]]
        )


class TestEntityNames:
    KEYS = ("<http://dbpedia.org/resource/Oslo>", "/m/05l64", "http://w.org/Q1", "01440764", "A/x")

    @pytest.mark.parametrize(
        ("name", "expected"),
        [
            ("<http://dbpedia.org/resource/Oslo>", 0),
            ("http://dbpedia.org/resource/Oslo", 0),
            ("Oslo", 0),
            ("/m/05l64", 1),
            ("m.05l64", 1),
            ("Q1", 2),
            ("n01440764", 3),
            ("Bergen", None),
            ("", None),
        ],
    )
    def test_aliases(self, name: str, expected: int | None) -> None:
        assert EntityNames(self.KEYS).find(name) == expected

    def test_an_alias_of_two_entities_means_none(self) -> None:
        names = EntityNames(["a/x", "b/x", "x/y"])
        assert names.find("x") is None
        assert names.find("y") == 2
        assert EntityNames(["a/x", "x"]).find("x") == 1  # a key is no alias

    def test_links_of_either_side(self) -> None:
        links = [("http://d.org/Oslo%20by", "http://w.org/Q1"), ("/m/05l64", "<http://d.org/B>")]
        names = EntityNames(self.KEYS, links)
        assert names.find("http://d.org/Oslo%20by") == 2
        assert names.find("Oslo by") == 2
        assert names.find("B") == 1

    def test_files_of_links_lead_features_home(self, tmp_path: Path) -> None:
        # As MMRNS has it: features by DBpedia's names, entities by Wikidata's.
        uri = "http://www.wikidata.org/entity/Q90"
        folder = write(
            tmp_path / "toy",
            {
                **OPENKE,
                "entity2id.txt": OPENKE["entity2id.txt"].replace("Paris", uri),
                "ent_links": f"http://dbpedia.org/resource/Paname\t{uri}\n",
                "X_SameAsLink.txt": f"/m/0b <SameAs> <{ENTITIES[0]}> .\n",
                "X_ImageIndex.txt": "Germany\tIMG7\n",
            },
        )
        h5(Paname=WHOLE[3], IMG7=WHOLE[2], **{"m.0b": WHOLE[0]})(folder / "X_ImageData.h5")
        (folder / "X_ImageData.h5").rename(folder / "X_img.h5")
        modality = load_graph(folder).modalities["image"]
        assert modality.entities.tolist() == [0, 2, 3]
        np.testing.assert_array_equal(modality.features, WHOLE[[0, 2, 3]])


def test_saved_features_are_halves_where_that_loses_nothing(tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", OPENKE)
    np.save(folder / "visual.npy", WHOLE)
    np.save(folder / "text.npy", WHOLE + np.float32(1e-4))
    graph = load_graph(folder)
    save_graph(graph, tmp_path / "saved")
    saved = {
        name: np.load(tmp_path / "saved" / "modalities" / f"{name}.npz")["features"].dtype
        for name in graph.modalities
    }
    assert saved == {"image": np.float16, "text": np.float32}
    assert load_graph(tmp_path / "saved").fingerprint == graph.fingerprint


def test_an_npz_of_a_later_npy_version_is_refused(tmp_path: Path) -> None:
    folder = write(tmp_path / "toy", OPENKE)
    (folder / "modalities").mkdir()
    content = io.BytesIO()
    np.lib.format.write_array(content, WHOLE, version=(3, 0))
    with zipfile.ZipFile(folder / "modalities" / "image.npz", "w") as archive:
        archive.writestr("features.npy", content.getvalue())
    with pytest.raises(ValueError, match=r"npy version \(3, 0\) is not known"):
        load_graph(folder)
