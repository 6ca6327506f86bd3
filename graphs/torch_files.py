"""Files of `torch.save` from elsewhere: looked through before torch opens them.

`torch.load(weights_only=True)` runs no code of the file. But it calls what tensors are made of and
what `bytearray` is made of, and takes memory for whatever sizes an archive's directory and its
pickle name.
"""

from __future__ import annotations

import io
import pickletools
import tarfile
import zipfile
from pathlib import Path
from typing import IO

# All that tensors, parameters, lists and dicts of them are pickled by, beside types of storages.
_FUNCTIONS = {
    "collections OrderedDict",
    "torch Size",
    "torch._tensor _rebuild_from_type_v2",
    "torch._utils _rebuild_parameter",
    "torch._utils _rebuild_sparse_tensor",
    "torch._utils _rebuild_tensor_v2",
    "torch.nn.parameter Parameter",
    "torch.serialization _get_layout",
}
_OTHER_CALLS = {"STACK_GLOBAL", "INST", "OBJ", "NEWOBJ", "NEWOBJ_EX", "EXT1", "EXT2", "EXT4"}
# Magic number, version, the machine's sizes, the content, and the keys of the storages.
_LEGACY_PICKLES = 5


def check_archive(path: Path) -> None:
    """Refuse a file that holds other things than tensors, or unpacks to more than it stores.

    Files of torch before 1.6 are no archives: their storages follow their pickles as they are.

    Raises:
        ValueError: the archive is packed, its members overlap, or it calls for other things than
            tensors.
        zipfile.BadZipFile: it is damaged.
    """
    if tarfile.is_tarfile(path):
        raise ValueError("expected a file of torch.save, got a tar file")
    if not zipfile.is_zipfile(path):
        with path.open("rb") as file:
            for _ in range(_LEGACY_PICKLES):
                _check_pickle(file)
        return
    stored = path.stat().st_size
    with zipfile.ZipFile(path) as archive:
        members = archive.infolist()
        if sum(member.file_size for member in members) > stored:
            raise ValueError(f"expected an archive that unpacks to no more than its {stored} bytes")
        for member in members:
            if member.filename.endswith(".pkl"):
                _check_pickle(io.BytesIO(archive.read(member)))


def _check_pickle(file: IO[bytes]) -> None:
    """Read one pickle, without doing what it says.

    Raises:
        ValueError: it is none, or names a function that tensors do not need.
    """
    for opcode, argument, _ in pickletools.genops(file):
        known = argument in _FUNCTIONS or _is_storage(argument)
        if opcode.name in _OTHER_CALLS or (opcode.name == "GLOBAL" and not known):
            raise ValueError("expected tensors, lists and dicts only, which hold no code")


def _is_storage(name: object) -> bool:
    return isinstance(name, str) and name.startswith("torch ") and name.endswith("Storage")
