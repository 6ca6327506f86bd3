"""The wheel, installed in a clean environment, works from another folder without a network."""

import os
import shutil
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
MIB = 2**20

PACKAGES = ("agents", "dsom_env", "graphs", "students", "teachers")

PROGRAM = """
import time, sys
started = time.perf_counter()
import gymnasium as gym
env = gym.make("dsom_env:DSoM-v0")
made = time.perf_counter()
observation, info = env.reset(seed=0)
observation, reward, *_ = env.step(env.action_space.sample())
import agents, dsom_env, graphs, students, teachers
assert env.observation_space.contains(observation)
for package in (agents, dsom_env, graphs, students, teachers):
    assert package.__file__.startswith(sys.prefix), package.__file__
print(round(made - started, 2), round(time.perf_counter() - made, 2))
"""


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Built from a copy: in a checkout, `build/` of an earlier build would get into the wheel."""
    source, out = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("wheel")
    for package in PACKAGES:
        without = shutil.ignore_patterns("__pycache__")
        shutil.copytree(ROOT / package, source / package, ignore=without)
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    command = [sys.executable, "-m", "pip", "wheel", ".", "--no-deps", "--no-build-isolation"]
    subprocess.run([*command, "--quiet", "-w", str(out)], cwd=source, check=True)
    (built,) = out.glob("*.whl")
    return built


@pytest.mark.slow
def test_wheel_holds_what_it_needs(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        sizes = {info.filename: info.file_size for info in archive.infolist()}
    graph = {name: size for name, size in sizes.items() if name.startswith("graphs/data/emoji/")}
    teachers = {name: s for name, s in sizes.items() if name.startswith("teachers/pretrained/")}
    assert {Path(name).name for name in graph} >= {
        "entities.tsv",
        "train.tsv",
        "text.npz",
        "image.npz",
        "thumbnails.npz",
        "card.json",
        "ATTRIBUTION.md",
    }
    assert sum(graph.values()) <= 3 * MIB
    assert len([name for name in teachers if name.endswith(".safetensors")]) == 16
    assert sum(teachers.values()) <= 12 * MIB
    typed = [f"{package}/py.typed" for package in PACKAGES]
    settings = (ROOT / "agents" / "hyperparameters").rglob("*.yml")
    page = (ROOT / "agents" / "report" / name for name in ("page.css", "page.js"))
    for name in [*typed, *(path.relative_to(ROOT).as_posix() for path in (*settings, *page))]:
        assert name in sizes
    tops = {name.split("/")[0] for name in sizes}
    assert {top for top in tops if not top.endswith(".dist-info")} == set(PACKAGES)
    licences = [name for name in sizes if ".dist-info/licenses/" in name]
    assert {Path(name).name for name in licences} >= {"LICENSE", "LICENSE-CC-BY-SA-4.0.txt"}


@pytest.mark.slow
def test_clean_install_makes_and_steps(wheel: Path, tmp_path: Path) -> None:
    """Dependencies come from the tests' environment; our packages must come from the wheel."""
    venv.create(tmp_path / "clean", with_pip=False)
    python = tmp_path / "clean" / "bin" / "python"
    site = Path(sysconfig.get_path("purelib", vars={"base": str(tmp_path / "clean")}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    # A path file adds the dependencies behind the wheel; editable installs are left out.
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib"))
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    environment = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "VIRTUAL_ENV")}
    environment["DSOM_CACHE"] = str(tmp_path / "cache")
    for _ in range(2):
        done = subprocess.run(
            [str(python), "-W", "error", "-c", PROGRAM],
            cwd=elsewhere,
            env=environment,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    assert list((tmp_path / "cache" / "stores").iterdir())
    assert not (tmp_path / "cache" / "teachers").exists(), "the shipped teachers were not found"


@pytest.mark.slow
def test_read_only_home_works_in_memory(tmp_path: Path) -> None:
    blocked = tmp_path / "file"
    blocked.write_text("a file, so that no folder can be made below it")
    program = (
        "import gymnasium as gym, dsom_env\n"
        "env = gym.make('DSoM-v0', dataset='planted:entities=160,relations=2,blocks=2',"
        " teacher_rank=4, teacher_epochs=2)\n"
        "env.reset(seed=0); env.step(env.action_space.sample())"
    )
    environment = os.environ | {"DSOM_CACHE": str(blocked / "cache")}
    subprocess.run([sys.executable, "-c", program], env=environment, check=True)
