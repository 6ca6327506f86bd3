"""Feature files as nobody meant them, or as somebody did who meant no good."""

import io
import os
import pickle
import resource
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from graphs import GraphWarning, load_graph
from tests.graphs.folders import OPENKE, write
from tests.malformed.conftest import Refused

Make = Callable[[Path], None]
WHOLE = np.arange(10, dtype=np.float32).reshape(5, 2)
CODE = "no code"
EXPLODED = Path("exploded")


class Bomb:
    """Touches a file of the working folder when it is unpickled."""

    def __reduce__(self) -> tuple[Any, ...]:
        return os.system, (f"touch {EXPLODED}",)


class Hoard:
    """A gigabyte when it is unpickled; torch allows the call."""

    def __reduce__(self) -> tuple[Any, ...]:
        return bytearray, (2**30,)


def npy(array: np.ndarray) -> Make:
    return lambda path: np.save(path, array)


def npz(**arrays: np.ndarray) -> Make:
    return lambda path: np.savez(path, **arrays)


def pt(content: object, zipped: bool = True) -> Make:
    return lambda path: torch.save(content, path, _use_new_zipfile_serialization=zipped)


def tensors(**content: torch.Tensor) -> Make:
    return lambda path: save_file(content, path)


def member(header: bytes, version: bytes = b"\1\0", data: bytes = b"") -> bytes:
    """The bytes of an npy file with any header."""
    size = len(header).to_bytes(2 if version == b"\1\0" else 4, "little")
    return b"\x93NUMPY" + version + size + header + data


def promising(shape: str) -> bytes:
    return member(f"{{'descr': '<f4', 'fortran_order': False, 'shape': {shape}}}\n".encode())


def raw(data: bytes) -> Make:
    return lambda path: path.write_bytes(data) and None


def npz_of(data: bytes, zeros: int = 0) -> Make:
    """An npz whose `features` are `data` and, packed to nothing, zeros."""

    def make(path: Path) -> None:
        with (
            zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
            archive.open("features.npy", "w", force_zip64=True) as features,
        ):
            features.write(data)
            for _ in range(zeros // 2**20):
                features.write(bytes(2**20))

    return make


def packed_pt(path: Path) -> None:
    """An archive of torch whose storage is packed: 16 KiB for 16 MiB."""
    content = io.BytesIO()
    torch.save(torch.zeros(2**22), content)
    with (
        zipfile.ZipFile(content) as plain,
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive,
    ):
        for name in plain.namelist():
            archive.writestr(name, plain.read(name))


def lying_pt(path: Path) -> None:
    """A tensor of a billion numbers over a storage of ten."""
    content = io.BytesIO()
    torch.save(torch.zeros(10), content)
    with zipfile.ZipFile(content) as plain, zipfile.ZipFile(path, "w") as archive:
        for name in plain.namelist():
            data = plain.read(name)
            if name.endswith(".pkl"):
                assert b"K\x0a" in data
                data = data.replace(b"K\x0a", b"J" + (10**9).to_bytes(4, "little"))
            archive.writestr(name, data)


def torn(make: Make, size: int) -> Make:
    def spoil(path: Path) -> None:
        make(path)
        os.truncate(path, size)

    return spoil


def tar(path: Path) -> None:
    """A tar file as torch had them before 0.1.10, with a way out of its folder."""
    with tarfile.open(path, "w") as archive:
        for name in ("../../exploded", "pickle"):
            info = tarfile.TarInfo(name)
            info.size = 3
            archive.addfile(info, io.BytesIO(b"abc"))


def h5(**arrays: Any) -> Make:
    def make(path: Path) -> None:
        with h5py.File(path, "w") as file:
            for name, array in arrays.items():
                text = h5py.string_dtype() if isinstance(array, list) else None
                if text:
                    file.create_dataset(name, data=np.array(array, dtype=object), dtype=text)
                else:
                    file[name] = array

    return make


def hollow_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file.create_dataset("features", (10**12, 10), "f4", chunks=(1024, 10))


def empty_h5(path: Path) -> None:
    with h5py.File(path, "w") as file:
        file["features"] = h5py.Empty("f4")


def long_names_h5(path: Path) -> None:
    """One name of four megabytes beside many short ones; as a matrix of text 64 gigabytes."""
    names = ["x" * 2**22] + ["y"] * 4000
    h5(entities=names, features=np.zeros((len(names), 1), np.float32))(path)


def rows(values: dict[tuple[int, int], float]) -> np.ndarray:
    features = WHOLE.astype(np.float64)
    for place, value in values.items():
        features[place] = value
    return features


# What is wrong: the ending, how the file is made, what the sentence says.
CORPUS: dict[str, tuple[str, Make, str]] = {
    "npy: NaN": ("npy", npy(rows({(2, 1): np.nan})), "row 2: expected finite"),
    "npy: infinite": ("npy", npy(rows({(4, 0): -np.inf})), "row 4: expected finite"),
    "npy: a raw count": ("npy", npy(rows({(1, 0): 1e9})), "row 1: expected finite"),
    "npy: beyond float32": ("npy", npy(rows({(1, 0): 1e300})), "row 1: expected finite"),
    "npy: a row short": ("npy", npy(WHOLE[:4]), "expected shape (5, any), got (4, 2)"),
    "npy: no columns": ("npy", npy(WHOLE[:, :0]), "expected a matrix of float features"),
    "npy: whole numbers": ("npy", npy(WHOLE.astype(int)), "expected numpy kind f"),
    "npy: text": ("npy", npy(WHOLE.astype(str)), "expected numpy kind f"),
    "npy: objects": ("npy", npy(np.array([[Bomb()]] * 5)), "expected numpy kind f, got object"),
    "npy: a pickle": ("npy", raw(pickle.dumps(Bomb())), "magic string"),
    "npy: empty": ("npy", raw(b""), "magic string"),
    "npy: torn": ("npy", torn(npy(WHOLE), 140), "expected 40 bytes of data"),
    "npy: a trillion rows": (
        "npy",
        raw(promising("(1000000000000, 2)")),
        "expected shape (5, any)",
    ),
    "npy: a trillion columns": ("npy", raw(promising("(5, 1000000000000)")), "bytes promised"),
    "npy: negative": ("npy", raw(promising("(5, -1)")), "expected shape (5, any), got (5, -1)"),
    "npy: a call as header": (
        "npy",
        raw(member(b"__import__('os').system('ls')")),
        "malformed node",
    ),
    "npy: a header in a header": ("npy", raw(promising("(" * 3000)), "image.npy"),
    "npz: no zip": ("npz", raw(b"PK\x03\x04 no zip"), "expected an npz file"),
    "npz: another array": ("npz", npz(pictures=WHOLE), "expected an array 'entities'"),
    "npz: id out of range": ("npz", npz(entities=np.array([7]), features=WHOLE[:1]), "[0, 5)"),
    "npz: negative id": ("npz", npz(entities=np.array([-1]), features=WHOLE[:1]), "[0, 5)"),
    "npz: id twice": ("npz", npz(entities=np.array([2, 2]), features=WHOLE[:2]), "row 1"),
    "npz: rows without ids": ("npz", npz(entities=np.array([2]), features=WHOLE), "shape (1, any)"),
    "npz: objects": (
        *("npz", npz(entities=np.array([0]), features=np.array([[Bomb()]]))),
        "expected numpy kind f, got object",
    ),
    "npz: a bomb": ("npz", npz_of(promising("(5, 6710886)"), 2**27), "bytes promised"),
    "npz: a bomb of a header": (
        *("npz", npz_of(b"\x93NUMPY\2\0\xff\xff\xff\x07", 2**27)),
        "npy version (2, 0) is not known",
    ),
    "npz: ways out of the folder": (
        *("npz", lambda path: zipfile.ZipFile(path, "w").writestr("../../exploded", b"a")),
        "expected an array 'entities'",
    ),
    "safetensors: empty": ("safetensors", raw(b""), "image.safetensors"),
    "safetensors: header of no end": ("safetensors", raw(b"\xff" * 8 + b"{}"), "eader"),
    "safetensors: a trillion rows": (
        "safetensors",
        raw(
            b"\x50"
            + bytes(7)
            + b'{"x":{"dtype":"F32","shape":[1000000000000,2],'
            b'"data_offsets":[0,8000000000000]}}'.ljust(80)
        ),
        "image.safetensors",
    ),
    "safetensors: a row short": (
        *("safetensors", tensors(features=torch.zeros(4, 2))),
        "one row for each of the 5 entities",
    ),
    "safetensors: NaN": (
        *("safetensors", tensors(features=torch.full((5, 2), torch.nan))),
        "row 0: expected finite",
    ),
    "pt: code": ("pt", pt(Bomb()), CODE),
    "pt: code beside tensors": ("pt", pt({"features": torch.zeros(5, 2), "x": Bomb()}), CODE),
    "pt: code in an old file": ("pt", pt(Bomb(), zipped=False), CODE),
    "pt: a bare pickle": ("pt", raw(pickle.dumps(Bomb())), CODE),
    "pt: a whole module": ("pt", pt(torch.nn.Linear(2, 2)), CODE),
    "pt: a gigabyte of nothing": ("pt", pt({"features": torch.zeros(5, 2), "x": Hoard()}), CODE),
    "pt: the same, old": ("pt", pt({"x": Hoard()}, zipped=False), CODE),
    "pt: packed": ("pt", packed_pt, "unpacks to no more than"),
    "pt: larger than its storage": ("pt", lying_pt, "image.pt cannot be read"),
    "pt: repeated at will": ("pt", pt(torch.zeros(1).expand(10**6, 10**6)), "bytes promised"),
    "pt: a tar": ("pt", tar, "got a tar file"),
    "pt: torn": ("pt", torn(pt(torch.zeros(5, 2)), 300), "image.pt"),
    "pt: empty": ("pt", raw(b""), "image.pt"),
    "pt: ids that are none": ("pt", pt({"ids": [None], "feats": torch.ones(1, 2)}), "'ids'"),
    "pt: ids of two kinds": ("pt", pt({"ids": [1, "a"], "feats": torch.ones(2, 2)}), "'ids'"),
    "pt: ids of no end": ("pt", pt({"ids": [2**70], "feats": torch.ones(1, 2)}), "'ids'"),
    "pt: rows by ids of no end": ("pt", pt({2**70: torch.ones(2)}), "image.pt, ids"),
    "pt: sparse": ("pt", pt({"a": torch.ones(2, 2).to_sparse()}), "expected a dense tensor"),
    "h5: no HDF5": ("h5", raw(b"\x89HDF\r\n\x1a\n nothing"), "image.h5"),
    "h5: a trillion rows": ("h5", hollow_h5, "bytes promised"),
    "h5: nothing": ("h5", empty_h5, "'features'"),
    "h5: names in a table": ("h5", h5(ids=[["Paris"]], features=WHOLE[:1]), "a list of names"),
    "h5: a way out": ("h5", h5(features=h5py.ExternalLink("/etc/passwd", "x")), "got a link"),
    "h5: beyond float32": ("h5", h5(Paris=np.full(2, 1e300)), "row 0: expected finite"),
}


def folder_with(tmp_path: Path, ending: str, make: Make) -> Path:
    folder = write(tmp_path / "toy", OPENKE)
    (folder / "modalities").mkdir()
    make(folder / "modalities" / f"image.{ending}")
    return folder


@pytest.mark.parametrize("kind", CORPUS)
def test_malformed_features_are_one_sentence(
    kind: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, refused: Refused
) -> None:
    ending, make, says = CORPUS[kind]
    monkeypatch.chdir(tmp_path)
    folder = folder_with(tmp_path, ending, make)
    said = refused(load_graph, folder)
    assert f"image.{ending}" in said
    assert says in said
    assert not list(tmp_path.rglob(str(EXPLODED)))


def test_names_take_the_room_that_they_need(tmp_path: Path) -> None:
    folder = folder_with(tmp_path, "h5", long_names_h5)
    held = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    with pytest.warns(GraphWarning, match="left out 4001 of 4001"):
        load_graph(folder)
    assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - held < 2**20  # kilobytes


@pytest.mark.parametrize("zipped", [True, False])
def test_honest_files_of_torch_are_read(zipped: bool, tmp_path: Path) -> None:
    content = {"Paris": torch.ones(2), "Berlin": torch.nn.Parameter(torch.zeros(2))}
    graph = load_graph(folder_with(tmp_path, "pt", pt(content, zipped)))
    assert graph.modalities["image"].entities.tolist() == [0, 3]
