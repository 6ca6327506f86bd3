"""Files: whole or absent when written, checked when read, and a folder to cache them in."""

from __future__ import annotations

import dataclasses
import hashlib
import json
import logging
import math
import os
import re
import secrets
import shutil
import zipfile
from collections.abc import Callable, Container, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import IO, Any, BinaryIO

import numpy as np
import platformdirs
from numpy.typing import NDArray

MANIFEST = "manifest.json"
_TEMPORARY = re.compile(r"\..+\.[0-9a-f]{16}\.tmp")
MANIFEST_FORMAT = 1

# Real arrays of features shrink severalfold at most; a far smaller file was made to exhaust memory.
# Features are copied twice or so on their way, and a gigabyte has to do for all of it.
_MOST_EXPANSION = 200
_ALWAYS_ALLOWED_BYTES = 2**26

_log = logging.getLogger(__name__)


def _temporary_sibling(path: Path) -> Path:
    # A sibling, because a rename is atomic only within one file system. The name is random and
    # not a process id: containers that share a cache have equal ids.
    return path.with_name(f".{path.name}.{secrets.token_hex(8)}.tmp")


def sweep(folder: Path) -> None:
    """Remove what `atomic_write` and `atomic_folder` left in a folder when they were killed.

    For folders that one process at a time writes to: another one's would go, too.
    """
    for stray in folder.glob(".*.tmp"):
        if _TEMPORARY.fullmatch(stray.name):
            if stray.is_dir() and not stray.is_symlink():
                shutil.rmtree(stray, ignore_errors=True)
            else:
                stray.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    """Flush a file or, where the system can do so, the entries of a folder to the disk."""
    if os.name == "nt" and path.is_dir():
        return
    descriptor = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def atomic_write(path: str | os.PathLike[str], content: bytes | Callable[[BinaryIO], None]) -> None:
    """Write a file so that readers see the old one or the new one, never a part.

    Args:
        path: the file; its folder must exist.
        content: the bytes, or a function that writes them to the open binary file it is given.

    Raises:
        OSError: the folder cannot be written; `path` is as it was, no temporary file is left.
    """
    target = Path(path)
    temporary = _temporary_sibling(target)
    try:
        with temporary.open("xb") as file:
            if isinstance(content, bytes):
                file.write(content)
            else:
                content(file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    _sync(target.parent)


@contextmanager
def atomic_folder(
    path: str | os.PathLike[str], complete: Callable[[Path], bool] = Path.is_dir
) -> Iterator[Path]:
    """Build a folder beside `path` and rename it when the block ends without an error.

    Several processes may build the same folder at once: the first rename wins, the others find
    a complete folder and discard their own. So the block must write the same content whoever
    runs it.

    Args:
        path: the folder to appear; its parent must exist. An empty folder is replaced.
        complete: says whether a folder found at `path` may stay. By default it may, since no
            half-built folder ever gets that name; pass a check of the manifest to replace
            damaged ones.

    Yields:
        The temporary folder to write into.

    Raises:
        OSError: the parent cannot be written, or `path` is a file.
    """
    target = Path(path)
    if target.exists() and not target.is_dir():
        raise NotADirectoryError(f"{target} is a file, expected a folder or nothing")
    temporary = _temporary_sibling(target)
    temporary.mkdir()
    try:
        yield temporary
        for entry in [*temporary.rglob("*"), temporary]:
            _sync(entry)
        _move_into_place(temporary, target, complete)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    _sync(target.parent)


def _move_into_place(temporary: Path, target: Path, complete: Callable[[Path], bool]) -> None:
    while True:
        try:
            temporary.rename(target)
            return
        except OSError:
            if not target.is_dir():
                raise
            if complete(target):
                return
        # The damaged folder is renamed first: deleting it in place would show readers a part.
        damaged = _temporary_sibling(target)
        try:
            target.rename(damaged)
        except FileNotFoundError:
            continue  # another process moved it away first
        shutil.rmtree(damaged, ignore_errors=True)


def refuse_strays(folder: Path, places: Sequence[str], endings: Container[str]) -> None:
    """Refuse a folder in which a file is none, or leads out of it.

    A folder from elsewhere could otherwise show what lies beside it, in errors or as features, or
    never end, as a pipe does.

    Args:
        folder: what was given; itself it may be a link.
        places: folders in it whose files are looked at; `.` is itself.
        endings: suffixes of the files that are.

    Raises:
        ValueError: a link leads out of the folder, or there is a pipe, a socket or a device.
    """
    root = folder.resolve()
    for place in places:
        inside = folder / place
        found = [inside, *sorted(inside.iterdir())] if inside.is_dir() else []
        for path in found:
            if path != inside and (path.suffix not in endings or path.is_dir()):
                continue
            if not _leads_into(root, path):
                raise ValueError(f"{path}: expected a file of the folder, got a link out of it")
            if path.exists() and not (path.is_file() or path.is_dir()):
                raise ValueError(f"{path}: expected a file, got a pipe, a socket or a device")


def _leads_into(root: Path, path: Path) -> bool:
    try:
        return path.resolve().is_relative_to(root)
    except (OSError, RuntimeError):  # a link to itself
        return False


def open_npz(path: Path) -> zipfile.ZipFile:
    """Open an npz file to read arrays from.

    Raises:
        ValueError: it is no zip file.
    """
    try:
        return zipfile.ZipFile(path)
    except Exception as error:  # a damaged directory of files raises more than BadZipFile
        raise ValueError(f"{path}: expected an npz file, {error}") from None


def read_array(
    path: Path, archive: zipfile.ZipFile, name: str, kinds: str, shape: Sequence[int | None]
) -> NDArray[Any]:
    """One array of an npz file, whose memory is taken as the bytes arrive.

    `numpy.load` allocates what the header of the array asks for before it has seen the data.

    Args:
        path: for messages.
        archive: the opened npz file.
        name: of the array.
        kinds: accepted numpy kinds, such as `iu`.
        shape: expected lengths, None where any will do.

    Raises:
        ValueError: the array is missing, malformed or of another kind or shape.
    """
    try:
        info = archive.getinfo(f"{name}.npy")
    except KeyError:
        raise ValueError(f"{path}: expected an array {name!r}") from None
    with refusing(f"{path}, array {name!r}"), archive.open(info) as member:
        # The archive's own word on the sizes of its members proves nothing.
        return _read_npy(member, path.stat().st_size, kinds, shape)


def read_npy(path: Path, kinds: str, shape: Sequence[int | None]) -> NDArray[Any]:
    """The array of an npy file, read as `read_array` reads.

    Raises:
        ValueError: the array is malformed or of another kind or shape.
    """
    with refusing(str(path)), path.open("rb") as file:
        return _read_npy(file, path.stat().st_size, kinds, shape)


@contextmanager
def refusing(subject: str) -> Iterator[None]:
    """Turn whatever is raised while a file is read into one sentence about `subject`."""
    try:
        yield
    except ValueError as error:
        reason = str(error).strip().partition("\n")[0]
        raise ValueError(f"{subject}: {reason}") from None
    except Exception as error:  # zlib, lzma and bz2 each raise errors of their own
        reason = str(error).strip().partition("\n")[0] or type(error).__name__
        raise ValueError(f"{subject} cannot be read: {reason}") from None


def check_shape(
    found: Sequence[int], wanted: Sequence[int | None], item_bytes: int, stored: int
) -> None:
    """Hold what a header promises against what is wanted and what the file can hold.

    Args:
        found: the shape in the header.
        wanted: expected lengths, None where any will do.
        item_bytes: size of one number.
        stored: size of the file.

    Raises:
        ValueError: another shape, or far more numbers than such a file can hold.
    """
    if len(found) != len(wanted) or any(
        length < 0 or expected not in (None, length)
        for length, expected in zip(found, wanted, strict=True)
    ):
        sizes = ", ".join("any" if length is None else str(length) for length in wanted)
        raise ValueError(f"expected shape ({sizes}), got {tuple(found)}")
    promised = math.prod(found) * item_bytes
    if promised > most_bytes(stored):
        raise ValueError(f"{promised} bytes promised by a file of {stored}")


def most_bytes(stored: int, always: int = _ALWAYS_ALLOWED_BYTES) -> int:
    """How many bytes a file may unpack to; more of them were put there to exhaust memory.

    Args:
        stored: size of the file in bytes.
        always: what even the smallest file may unpack to.
    """
    return max(always, _MOST_EXPANSION * stored)


def _read_npy(
    stream: IO[bytes], stored: int, kinds: str, shape: Sequence[int | None]
) -> NDArray[Any]:
    version = np.lib.format.read_magic(stream)
    # Later versions are for structured arrays, and may promise a header of four gigabytes.
    if version != (1, 0):
        raise ValueError(f"npy version {version} is not known")
    found, fortran, dtype = np.lib.format.read_array_header_1_0(stream)
    if dtype.kind not in kinds or dtype.hasobject or not dtype.itemsize:
        raise ValueError(f"expected numpy kind {' or '.join(kinds)}, got {dtype}")
    check_shape(found, shape, dtype.itemsize, stored)
    promised = math.prod(found) * dtype.itemsize
    data = stream.read(promised)
    if len(data) < promised or stream.read(1):
        raise ValueError(f"expected {promised} bytes of data, got another number")
    flat = np.frombuffer(data, dtype, count=math.prod(found))
    return flat.reshape(found, order="F" if fortran else "C")


def write_npz(path: Path, **arrays: NDArray[Any]) -> None:
    """Write arrays to a compressed npz file, atomically; equal arrays give equal bytes.

    Raises:
        ValueError: an array holds Python objects, which only a pickle could carry.
    """
    for name, array in arrays.items():
        if array.dtype.hasobject:
            raise ValueError(f"array {name!r}: expected numbers or text, got Python objects")

    contents: dict[str, Any] = dict(arrays)  # numpy's stubs take any keyword for `allow_pickle`

    def write(file: BinaryIO) -> None:
        np.savez_compressed(file, **contents)

    atomic_write(path, write)


def cache_folder() -> Path | None:
    """The folder for what is costly to compute twice, or None when there can be none.

    It is `$DSOM_CACHE` where that is set, and otherwise the user's cache folder. With None
    (a read-only home, say) the caller keeps its results in memory.
    """
    named = os.environ.get("DSOM_CACHE")
    folder = Path(named) if named else Path(platformdirs.user_cache_dir("dsom"))
    probe = folder / f".{secrets.token_hex(8)}.probe"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        # Permission bits do not tell: a full disk or a read-only mount shows only on writing.
        probe.write_bytes(b"1")
        probe.unlink()
    except OSError as error:
        _log.warning("cache folder %s cannot be used, working in memory: %s", folder, error)
        return None
    return folder


def _plain(value: object) -> object:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {field.name: getattr(value, field.name) for field in dataclasses.fields(value)}
    raise TypeError(f"a configuration holds JSON types and dataclasses, got {value!r}")


def config_hash(config: object) -> str:
    """First 16 hexadecimal digits of the SHA-256 of `config` as canonical JSON.

    Args:
        config: JSON types and dataclasses, nested at will; key order does not matter.

    Raises:
        TypeError: something else is inside.
        ValueError: a number is NaN or infinite.
    """
    text = json.dumps(
        config, sort_keys=True, separators=(",", ":"), allow_nan=False, default=_plain
    )
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def _sha256(path: Path) -> str:
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def write_manifest(
    folder: str | os.PathLike[str], config_hash: str, extra: Mapping[str, Any] | None = None
) -> None:
    """Write `manifest.json` with the checksum of every file that is in `folder` now.

    Args:
        folder: the finished folder.
        config_hash: what the content was computed from, see `config_hash`.
        extra: JSON types that readers want to know.
    """
    root = Path(folder)
    paths = sorted(path for path in root.rglob("*") if path.is_file())
    files = {path.relative_to(root).as_posix(): _sha256(path) for path in paths}
    files.pop(MANIFEST, None)
    manifest = {
        "format": MANIFEST_FORMAT,
        "config_hash": config_hash,
        "files": files,
        "extra": dict(extra or {}),
    }
    text = json.dumps(manifest, indent=1, sort_keys=True, allow_nan=False)
    atomic_write(root / MANIFEST, text.encode() + b"\n")


def read_manifest(folder: str | os.PathLike[str], config_hash: str | None = None) -> dict[str, Any]:
    """Check a folder against its manifest.

    Args:
        folder: a folder that `write_manifest` has described.
        config_hash: the configuration that the content must come from; None accepts any.

    Returns:
        The manifest, with the keys `format`, `config_hash`, `files` and `extra`.

    Raises:
        ValueError: the manifest is missing, malformed or of another format or configuration,
            or a listed file is missing or has changed. Files that are not listed are ignored.
    """
    path = Path(folder) / MANIFEST
    try:
        manifest = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise ValueError(f"{path} is missing, expected a manifest") from None
    except (ValueError, RecursionError) as error:
        raise ValueError(f"{path}: expected JSON, got {error}") from None
    if not isinstance(manifest, dict) or manifest.get("format") != MANIFEST_FORMAT:
        found = manifest.get("format") if isinstance(manifest, dict) else manifest
        raise ValueError(f"{path}: expected format {MANIFEST_FORMAT}, got {found!r}")
    files, extra = manifest.get("files"), manifest.get("extra")
    if not isinstance(files, dict) or not isinstance(extra, dict):
        raise ValueError(f"{path}: expected objects under 'files' and 'extra'")
    if config_hash is not None and manifest.get("config_hash") != config_hash:
        raise ValueError(
            f"{path}: made from configuration {manifest.get('config_hash')!r}, "
            f"expected {config_hash!r}"
        )
    for name, expected in files.items():
        parts = PurePosixPath(name)
        if parts.is_absolute() or ".." in parts.parts:
            raise ValueError(f"{path}: file name {name!r} leaves the folder")
        listed = path.parent / parts
        if not _leads_into(path.parent.resolve(), listed):
            raise ValueError(f"{listed} is a link that leaves the folder")
        if not listed.is_file():
            raise ValueError(f"{listed} is missing, but {MANIFEST} lists it")
        if _sha256(listed) != expected:
            raise ValueError(f"{listed} has changed: its SHA-256 is not the one in {MANIFEST}")
    return manifest
