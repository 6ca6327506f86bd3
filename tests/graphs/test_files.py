"""Atomic writes under failure and races, the cache folder, manifests."""

import json
import os
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pytest

from graphs.files import (
    atomic_folder,
    atomic_write,
    cache_folder,
    config_hash,
    open_npz,
    read_array,
    read_manifest,
    write_manifest,
    write_npz,
)
from graphs.naming import nearest, unknown


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


class TestAtomicWrite:
    def test_replaces_the_content(self, tmp_path: Path) -> None:
        atomic_write(tmp_path / "a", b"old and long")
        atomic_write(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"new"
        assert names(tmp_path) == ["a"]

    def test_a_writer_that_fails_changes_nothing(self, tmp_path: Path) -> None:
        atomic_write(tmp_path / "a", b"old")

        def fails(file: BinaryIO) -> None:
            file.write(b"half of the new")
            file.flush()
            raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            atomic_write(tmp_path / "a", fails)
        assert (tmp_path / "a").read_bytes() == b"old"
        assert names(tmp_path) == ["a"]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_failing_disk_changes_nothing(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: str
    ) -> None:
        atomic_write(tmp_path / "a", b"old")

        def fails(*_: object) -> None:
            raise OSError("no space left")

        if step == "fsync":
            monkeypatch.setattr(os, "fsync", fails)
        else:
            monkeypatch.setattr(Path, "replace", fails)
        with pytest.raises(OSError, match="no space left"):
            atomic_write(tmp_path / "a", b"new")
        assert (tmp_path / "a").read_bytes() == b"old"
        assert names(tmp_path) == ["a"]

    def test_the_target_is_whole_while_the_writer_runs(self, tmp_path: Path) -> None:
        atomic_write(tmp_path / "a", b"old")
        seen = []

        def looks(file: BinaryIO) -> None:
            file.write(b"new")
            file.flush()
            seen.append((tmp_path / "a").read_bytes())

        atomic_write(tmp_path / "a", looks)
        assert seen == [b"old"]
        assert (tmp_path / "a").read_bytes() == b"new"

    def test_others_may_read_what_the_umask_allows(self, tmp_path: Path) -> None:
        (tmp_path / "plain").write_bytes(b"")
        atomic_write(tmp_path / "a", b"")
        assert (tmp_path / "a").stat().st_mode == (tmp_path / "plain").stat().st_mode


RACER = """
import sys
from pathlib import Path
from graphs.files import atomic_folder
me, target = sys.argv[1], Path(sys.argv[2])
with atomic_folder(target) as build:
    (build / "one").write_text(me)
    print("built", flush=True)
    sys.stdin.readline()  # the test lets both go on only when both have built
    (build / "two").write_text(me)
print("done", flush=True)
"""


class TestAtomicFolder:
    def test_appears_whole(self, tmp_path: Path) -> None:
        with atomic_folder(tmp_path / "f") as build:
            (build / "deep").mkdir()
            (build / "deep" / "file").write_text("x")
            assert not (tmp_path / "f").exists()
        assert (tmp_path / "f" / "deep" / "file").read_text() == "x"
        assert names(tmp_path) == ["f"]

    def test_a_failure_leaves_nothing(self, tmp_path: Path) -> None:
        def build_half() -> None:
            with atomic_folder(tmp_path / "f") as build:
                (build / "file").write_text("x")
                raise KeyboardInterrupt

        with pytest.raises(KeyboardInterrupt):
            build_half()
        assert names(tmp_path) == []

    def test_a_damaged_folder_is_replaced(self, tmp_path: Path) -> None:
        (tmp_path / "f").mkdir()
        (tmp_path / "f" / "stale").write_text("x")
        with atomic_folder(tmp_path / "f", lambda f: (f / "good").exists()) as build:
            (build / "good").write_text("x")
        assert names(tmp_path / "f") == ["good"]
        assert names(tmp_path) == ["f"]

    def test_a_file_in_the_way_is_named_and_kept(self, tmp_path: Path) -> None:
        (tmp_path / "f").write_text("mine")
        with pytest.raises(NotADirectoryError, match="is a file"), atomic_folder(tmp_path / "f"):
            pass
        assert (tmp_path / "f").read_text() == "mine"

    def test_of_two_processes_one_wins_and_both_succeed(self, tmp_path: Path) -> None:
        target = tmp_path / "f"
        racers = [
            subprocess.Popen(
                [sys.executable, "-c", RACER, me, str(target)],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                text=True,
                cwd=Path(__file__).parents[2],
            )
            for me in ("a", "b")
        ]
        for racer in racers:
            assert racer.stdout is not None
            assert racer.stdout.readline() == "built\n"
        outputs = []
        for racer in racers:
            assert racer.stdin is not None
            racer.stdin.write("\n")
            racer.stdin.flush()
        for racer in racers:
            outputs.append(racer.communicate(timeout=60)[0])
        assert outputs == ["done\n", "done\n"]
        assert [racer.returncode for racer in racers] == [0, 0]
        assert names(target) == ["one", "two"]
        assert (target / "one").read_text() == (target / "two").read_text()
        assert names(tmp_path) == ["f"]


class TestCacheFolder:
    def test_the_variable_names_it(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setenv("DSOM_CACHE", str(tmp_path / "deep" / "cache"))
        assert cache_folder() == tmp_path / "deep" / "cache"
        assert names(tmp_path / "deep" / "cache") == []

    def test_without_the_variable_it_is_the_users(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.delenv("DSOM_CACHE", raising=False)
        monkeypatch.setattr("platformdirs.user_cache_dir", lambda app: str(tmp_path / app))
        assert cache_folder() == tmp_path / "dsom"

    def test_none_where_it_cannot_be_made(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
    ) -> None:
        # A folder under a file can be made by nobody, not even by root.
        (tmp_path / "file").write_text("x")
        monkeypatch.setenv("DSOM_CACHE", str(tmp_path / "file" / "cache"))
        assert cache_folder() is None
        assert "working in memory" in caplog.text

    def test_none_where_it_cannot_be_written(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def read_only(*_: object) -> int:
            raise OSError(30, "Read-only file system")

        monkeypatch.setenv("DSOM_CACHE", str(tmp_path))
        monkeypatch.setattr(Path, "write_bytes", read_only)
        assert cache_folder() is None


class TestManifest:
    def made(self, folder: Path) -> Path:
        (folder / "sub").mkdir()
        (folder / "sub" / "data").write_bytes(b"data")
        write_manifest(folder, "abc", {"queries": 3})
        return folder

    def test_round_trip(self, tmp_path: Path) -> None:
        manifest = read_manifest(self.made(tmp_path), "abc")
        assert manifest["extra"] == {"queries": 3}
        assert list(manifest["files"]) == ["sub/data"]
        # The well-known digest of these four bytes, so that the scheme is fixed too.
        assert manifest["files"]["sub/data"].startswith("3a6eb0790f39ac87")

    def test_writing_it_again_does_not_list_itself(self, tmp_path: Path) -> None:
        write_manifest(self.made(tmp_path), "abc")
        assert list(read_manifest(tmp_path, "abc")["files"]) == ["sub/data"]

    @pytest.mark.parametrize("damage", [b"dbta", b"dat", b"data+"])
    def test_a_changed_file_is_named(self, tmp_path: Path, damage: bytes) -> None:
        (self.made(tmp_path) / "sub" / "data").write_bytes(damage)
        with pytest.raises(ValueError, match=r"sub.data has changed"):
            read_manifest(tmp_path, "abc")

    def test_a_missing_file_is_named(self, tmp_path: Path) -> None:
        (self.made(tmp_path) / "sub" / "data").unlink()
        with pytest.raises(ValueError, match=r"sub.data is missing"):
            read_manifest(tmp_path)

    def test_another_configuration_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="'abc', expected 'xyz'"):
            read_manifest(self.made(tmp_path), "xyz")

    @pytest.mark.parametrize(
        ("text", "complaint"),
        [
            (None, "is missing"),
            ("{", "expected JSON"),
            ("[" * 100_000, "expected JSON"),
            ("[]", "expected format 1"),
            ('{"format": 2}', "expected format 1, got 2"),
            ('{"format": 1}', "expected objects"),
            ('{"format": 1, "files": {"../a": "0"}, "extra": {}}', "leaves the folder"),
            ('{"format": 1, "files": {"/etc/passwd": "0"}, "extra": {}}', "leaves the folder"),
        ],
    )
    def test_a_malformed_manifest_is_refused(
        self, tmp_path: Path, text: str | None, complaint: str
    ) -> None:
        if text is not None:
            (tmp_path / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match=complaint):
            read_manifest(tmp_path)


@dataclass(frozen=True)
class Config:
    rate: float
    sizes: tuple[int, ...]


class TestConfigHash:
    def test_depends_on_content_not_on_order(self) -> None:
        assert config_hash({"a": 1, "b": [1, 2]}) == config_hash({"b": (1, 2), "a": 1})
        assert config_hash({"a": 1}) != config_hash({"a": 2})
        assert config_hash({"a": 1}) != config_hash({"b": 1})

    def test_is_the_same_in_every_process(self) -> None:
        assert config_hash({}) == "44136fa355b3678a"  # SHA-256 of the two characters {}

    def test_dataclasses_count_by_their_fields(self) -> None:
        nested = {"config": Config(0.5, (1, 2))}
        assert config_hash(nested) == config_hash({"config": {"rate": 0.5, "sizes": [1, 2]}})

    def test_refuses_what_has_no_canonical_text(self) -> None:
        with pytest.raises(TypeError, match="JSON types"):
            config_hash({"a": object()})
        with pytest.raises(ValueError, match="JSON compliant"):
            config_hash({"a": float("nan")})


class TestArrays:
    def test_round_trip_and_equal_bytes(self, tmp_path: Path) -> None:
        array = np.asfortranarray(np.arange(12, dtype=np.float32).reshape(3, 4))
        for name in ("one.npz", "two.npz"):
            write_npz(tmp_path / name, features=array, labels=np.array(["ä", "bc"]))
        assert (tmp_path / "one.npz").read_bytes() == (tmp_path / "two.npz").read_bytes()
        with open_npz(tmp_path / "one.npz") as archive:
            path = tmp_path / "one.npz"
            np.testing.assert_array_equal(
                read_array(path, archive, "features", "f", (None, 4)), array
            )
            assert read_array(path, archive, "labels", "U", (2,)).tolist() == ["ä", "bc"]

    def test_objects_are_refused(self, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="'a': expected numbers or text"):
            write_npz(tmp_path / "x.npz", a=np.array([{}]))
        assert names(tmp_path) == []


class TestNaming:
    def test_nearest(self) -> None:
        assert nearest("resnet", ["reinforce", "a2c"]) == "reinforce"
        assert nearest("PPO", ["a2c", "ppo"]) == "ppo"

    def test_the_sentence_names_all(self) -> None:
        message = str(unknown("agent", "reinfroce", ["ppo", "reinforce"]))
        assert message == (
            "agent: unknown 'reinfroce'; did you mean 'reinforce'? Valid: ppo, reinforce"
        )
        assert str(unknown("agent", 3, [])) == "agent: unknown 3; there are no valid names here"


def test_manifest_is_plain_json(tmp_path: Path) -> None:
    write_manifest(tmp_path, "abc")
    assert json.loads((tmp_path / "manifest.json").read_text()) == {
        "format": 1,
        "config_hash": "abc",
        "files": {},
        "extra": {},
    }
