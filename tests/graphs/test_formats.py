"""OpenKE folders and triples by name or id: what is read, and the sentence for what is not."""

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from graphs import GraphWarning, MultimodalGraph, load_graph, save_graph
from tests.graphs.folders import (
    ENTITIES,
    FOLDERS,
    IDS_ALONE,
    IDS_WITH_NAMES,
    MOMOK,
    MYGO,
    NATIVE,
    OPENKE,
    PYKEEN,
    RELATIONS,
    TRIPLES,
    write,
)


@pytest.mark.parametrize("packed", [False, True])
@pytest.mark.parametrize("kind", FOLDERS)
def test_one_graph_in_every_format(tmp_path: Path, kind: str, packed: bool) -> None:
    if kind == "native" and packed:
        pytest.skip("the native format is not packed")
    graph = load_graph(write(tmp_path / "toy", FOLDERS[kind], packed))
    assert graph.name == "toy"
    for split, rows in TRIPLES.items():
        assert graph.triples[split].tolist() == [list(row) for row in rows]
        assert graph.triples[split].dtype == np.int64
    if kind != "ids alone":
        assert [name.replace("_", " ") for name in graph.entity_labels] == list(ENTITIES)
        assert [name.replace("_", " ") for name in graph.relation_labels] == list(RELATIONS)
    assert graph.fingerprint == load_graph(write(tmp_path / "native", NATIVE)).fingerprint


class TestOpenKE:
    def test_windows_line_ends_and_no_last_line_end(self, tmp_path: Path) -> None:
        files = {name: text.replace("\n", "\r\n").strip() for name, text in OPENKE.items()}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels == ENTITIES
        assert graph.triples["train"].tolist() == [list(row) for row in TRIPLES["train"]]

    def test_it_wins_over_triples_of_names_beside_it(self, tmp_path: Path) -> None:
        graph = load_graph(write(tmp_path / "toy", {**OPENKE, "train.txt": "a\tb\tc\n"}))
        assert graph.entity_labels == ENTITIES

    def test_names_may_have_spaces_and_ids_come_in_any_order(self, tmp_path: Path) -> None:
        files = {**OPENKE, "entity2id.txt": "5\nNew  York 1\nA\t0\n7 2\n3\t4\nä \u2028\t 3\n"}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels == ("A", "New  York", "7", "ä \u2028", "3")

    def test_repeated_training_triples_are_kept(self, tmp_path: Path) -> None:
        files = {**OPENKE, "train2id.txt": "3\n3 1 1\n3 1 1\n1 2 0\n"}
        assert len(load_graph(write(tmp_path / "toy", files)).triples["train"]) == 3

    def test_an_empty_test_split_is_one(self, tmp_path: Path) -> None:
        graph = load_graph(write(tmp_path / "toy", {**OPENKE, "test2id.txt": "0\n"}))
        assert graph.triples["test"].shape == (0, 3)

    @pytest.mark.parametrize(
        ("name", "old", "new", "line", "expected"),
        [
            ("train2id.txt", "4\n", "5\n", 1, "the number of triples below, 4, got '5'"),
            ("train2id.txt", "4\n", "", 1, "the number of triples below, 3, got '3 1 1'"),
            ("test2id.txt", OPENKE["test2id.txt"], "", 1, "the number of triples below"),
            ("train2id.txt", "3 1 1", "3 1", 2, "head, tail and relation ids, got '3 1'"),
            ("train2id.txt", "1 2 0", "1 2 0 0", 3, "head, tail and relation ids"),
            ("train2id.txt", "1 2 0", "", 3, "head, tail and relation ids, got ''"),
            ("train2id.txt", "1 2 0", "1 0 2", 3, r"a relation id in \[0, 2\)"),
            ("train2id.txt", "1 2 0", "1 5 0", 3, r"an entity id in \[0, 5\)"),
            ("valid2id.txt", "2 1 0", "2 -1 0", 2, r"an entity id in \[0, 5\)"),
            ("valid2id.txt", "2 1 0", "2 1_0 0", 2, r"an entity id in \[0, 5\)"),
            ("valid2id.txt", "2 1 0", "2 ١ 0", 2, r"an entity id in \[0, 5\)"),
            ("valid2id.txt", "2 1 0", f"2 {'9' * 30} 0", 2, r"an entity id in \[0, 5\)"),
            ("entity2id.txt", "5\n", "6\n", 1, "the number of an entity names below, 5, got '6'"),
            ("entity2id.txt", "Paris\t3", "Paris", 5, "the name of an entity and its id"),
            ("entity2id.txt", "Paris\t3", "\t3", 5, "the name of an entity and its id"),
            ("entity2id.txt", "Paris\t3", "Paris\t4", 6, r"an id in \[0, 5\) that no line above"),
            ("entity2id.txt", "Paris\t3", "Paris\t5", 5, r"an id in \[0, 5\) that no line above"),
            ("entity2id.txt", "Paris\t3", "France\t3", 5, "a name that line 3 does not have"),
            ("relation2id.txt", "2\n", "3\n", 1, "the number of a relation names below, 2"),
        ],
    )
    def test_malformed_lines_are_named(
        self, tmp_path: Path, name: str, old: str, new: str, line: int, expected: str
    ) -> None:
        assert old in OPENKE[name]
        folder = write(tmp_path / "toy", {**OPENKE, name: OPENKE[name].replace(old, new, 1)})
        with pytest.raises(ValueError, match=expected) as error:
            load_graph(folder)
        assert str(error.value).startswith(f"{folder / name}, line {line}: expected ")
        assert "\n" not in str(error.value)

    @pytest.mark.parametrize("name", sorted(set(OPENKE) - {"train2id.txt"}))
    def test_a_missing_file_is_named(self, tmp_path: Path, name: str) -> None:
        folder = write(tmp_path / "toy", OPENKE)
        (folder / name).unlink()
        with pytest.raises(ValueError, match=rf"{name} is missing, expected "):
            load_graph(folder)

    @pytest.mark.parametrize("content", [b"no xz", b""])
    def test_damaged_xz_is_named(self, tmp_path: Path, content: bytes) -> None:
        folder = write(tmp_path / "toy", OPENKE, packed=True)
        (folder / "train2id.txt.xz").write_bytes(content)
        with pytest.raises(ValueError, match=r"train2id\.txt\.xz: expected an xz file"):
            load_graph(folder)

    def test_xz_that_ends_early_is_named(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", OPENKE, packed=True)
        path = folder / "train2id.txt.xz"
        path.write_bytes(path.read_bytes()[:-8])
        with pytest.raises(ValueError, match=r"train2id\.txt\.xz: expected an xz file"):
            load_graph(folder)

    def test_xz_that_unpacks_to_too_much_is_refused(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr("graphs.text_files.most_bytes", lambda stored, always: 10)
        with pytest.raises(ValueError, match="expected at most 10 bytes when unpacked"):
            load_graph(write(tmp_path / "toy", OPENKE, packed=True))


class TestLabelled:
    @pytest.mark.parametrize(
        ("files", "name", "old", "new", "line", "expected"),
        [
            (PYKEEN, "test.tsv", "\tborders", " borders", 1, "3 tab-separated fields"),
            (PYKEEN, "train.tsv", "borders\t", "borders ", 2, "3 tab-separated fields"),
            (
                MOMOK,
                "train.txt",
                "borders ",
                "borders",
                2,
                "3 fields .* and a full stop",
            ),
            (MYGO, "valid.txt", "France", "Spain", 1, "an entity that entities.txt lists.* got 'S"),
            (MOMOK, "test.txt", "borders", "touches", 1, "a relation that relation2id.txt lists"),
            (MYGO, "entities.txt", "Paris", "France", 4, "a name that line 2 does not have"),
            (IDS_WITH_NAMES, "test.tsv", "4\t0\t0", "5\t0\t0", 1, r"by ids in \[0, 5\), got '5'"),
            (IDS_WITH_NAMES, "test.tsv", "4\t0\t0", "4\t2\t0", 1, r"by ids in \[0, 2\), got '2'"),
            (IDS_WITH_NAMES, "test.tsv", "4\t0\t0", "04\t0\t0", 1, "an entity that entity2id"),
            (IDS_WITH_NAMES, "test.tsv", "4\t0\t0", "Rome\t0\t0", 1, "an entity .* got 'Rome'"),
            (MYGO, "test.txt", "The Hague", "4", 1, "an entity .* got '4'"),
        ],
    )
    def test_malformed_lines_are_named(
        self,
        tmp_path: Path,
        files: dict[str, str],
        name: str,
        old: str,
        new: str,
        line: int,
        expected: str,
    ) -> None:
        assert old in files[name]
        folder = write(tmp_path / "toy", {**files, name: files[name].replace(old, new, 1)})
        with pytest.raises(ValueError, match=expected) as error:
            load_graph(folder)
        assert str(error.value).startswith(f"{folder / name}, line {line}: expected ")

    def test_a_missing_split_is_named(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", PYKEEN)
        (folder / "valid.tsv").unlink()
        with pytest.raises(ValueError, match=r"valid\.tsv \(or valid\.txt\) is missing"):
            load_graph(folder)

    def test_listed_names_win_over_ids(self, tmp_path: Path) -> None:
        # Every field is both a listed name and an id: MyGO's relations are such numbers.
        files = {
            "train.txt": "1\t0\t0\n",
            "valid.txt": "0\t0\t1\n",
            "test.txt": "",
            "entities.txt": "1\n0\n",
            "relations.txt": "0\n",
        }
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.triples["train"].tolist() == [[0, 0, 1]]
        assert graph.entity_labels == ("1", "0")

    def test_entities_by_name_and_relations_by_number(self, tmp_path: Path) -> None:
        files = {"train.txt": "b 0 a .\n", "valid.txt": "a 1 b .\n", "test.txt": ""}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels == ("a", "b")
        assert graph.relation_labels == ("0", "1")
        assert graph.triples["train"].tolist() == [[1, 0, 0]]

    def test_numbers_alone_are_ids_only_if_they_are_dense(self, tmp_path: Path) -> None:
        dense = {"train.txt": "0\t0\t9\n9\t0\t7\n3\t0\t2\n", "valid.txt": "", "test.txt": ""}
        graph = load_graph(write(tmp_path / "dense", dense))
        assert graph.num_entities == 10  # five of ten occur
        assert graph.triples["train"][0].tolist() == [0, 0, 9]
        sparse = {**dense, "train.txt": "0\t0\t9\n9\t0\t7\n3\t0\t3\n"}
        graph = load_graph(write(tmp_path / "sparse", sparse))
        assert graph.entity_labels == ("0", "3", "7", "9")
        assert graph.triples["train"][0].tolist() == [0, 0, 3]
        huge = {**dense, "train.txt": f"{10**15}\t0\t9\n"}
        assert load_graph(write(tmp_path / "huge", huge)).num_entities == 2

    def test_unlisted_entities_of_a_list_count(self, tmp_path: Path) -> None:
        files = {**MYGO, "entities.txt": MYGO["entities.txt"] + "Rome\n"}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.num_entities == 6
        assert graph.degrees.tolist()[-1] == 0

    def test_tsv_is_read_before_txt(self, tmp_path: Path) -> None:
        graph = load_graph(write(tmp_path / "toy", {**PYKEEN, **IDS_ALONE}))
        assert graph.entity_labels == ENTITIES


TEXT = {
    "entity_text.tsv": "id\tkey\tname\tdescription\tsource\n"
    "3\tx\tParis,  France\tA city.\ta\n0\ty\t\t\tb\n1\tz\tla France\t \tb\n"
}


class TestTexts:
    @pytest.mark.parametrize("kind", [OPENKE, MYGO, PYKEEN])
    def test_names_and_descriptions(self, tmp_path: Path, kind: dict[str, str]) -> None:
        graph = load_graph(write(tmp_path / "toy", {**kind, **TEXT}))
        assert graph.entity_labels[:2] == ("Berlin", "la France")
        assert graph.entity_labels[2:] == ("Germany", "Paris, France", "The Hague")
        assert graph.entity_texts == (None, None, None, "A city.", None)
        assert graph.metadata["entity_keys"] == list(ENTITIES)
        save_graph(graph, tmp_path / "saved")
        saved = load_graph(tmp_path / "saved")
        assert saved.entity_texts == graph.entity_texts
        assert saved.entity_labels == graph.entity_labels
        assert saved.metadata["entity_keys"] == list(ENTITIES)
        assert saved.fingerprint == graph.fingerprint

    def test_texts_by_name(self, tmp_path: Path) -> None:
        files = {
            **OPENKE,
            "entity2text.txt": "Paris\tParis (city)\nAtlantis\tnowhere\nBerlin\t\n",
            "entity2textlong.txt": "Paris\tThe city\tof light.\n",
            "relation2text.txt": "borders\thas a border with\n",
        }
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_labels[3] == "Paris (city)"
        assert graph.entity_labels[0] == "Berlin"
        assert graph.entity_texts is not None
        assert graph.entity_texts[3] == "The city of light."
        assert graph.entity_texts.count(None) == 4
        assert graph.relation_labels == ("has a border with", "capital of")
        assert graph.metadata["relation_keys"] == list(RELATIONS)

    def test_files_with_a_name_in_front(self, tmp_path: Path) -> None:
        files = {**OPENKE, "WN18_entity2textlong.txt": "Paris\tA city.\n"}
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_texts is not None
        assert graph.entity_texts[3] == "A city."

    def test_texts_of_strangers_alone_are_said(self, tmp_path: Path) -> None:
        files = {**OPENKE, "entity2textlong.txt": "Rome\tA city.\n"}
        with pytest.warns(GraphWarning, match=r"entity2textlong\.txt: none of its 1 names is one"):
            graph = load_graph(write(tmp_path / "toy", files))
        assert graph.entity_texts is None

    def test_relations_listed_in_order(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", {**OPENKE, "rel_links.txt": "border\nis capital\n"})
        assert load_graph(folder).relation_labels == ("border", "is capital")
        (folder / "rel_links.txt").write_text("border\n")
        assert load_graph(folder).relation_labels == RELATIONS

    def test_uris_are_shortened_in_labels_only(self, tmp_path: Path) -> None:
        files = {
            **OPENKE,
            "relation2id.txt": "2\n<http://a.org/ontology/borders> 0\nhttps://b.org/x#capital 1\n",
            "entity2id.txt": OPENKE["entity2id.txt"].replace("Paris", "<http://a.org/Paris>"),
        }
        graph = load_graph(write(tmp_path / "toy", files))
        assert graph.relation_labels == ("borders", "capital")
        assert graph.entity_labels[3] == "Paris"
        assert graph.metadata["entity_keys"][3] == "<http://a.org/Paris>"

    @pytest.mark.parametrize(
        ("name", "text", "line", "expected"),
        [
            ("entity_text.tsv", "id\tname\n", 1, "5 tab-separated fields"),
            ("entity_text.tsv", "a\tb\tc\td\te\n", 1, "the header 'id\\\\tkey"),
            ("entity_text.tsv", "", 1, "the header"),
            ("entity_text.tsv", TEXT["entity_text.tsv"] + "5\ta\tb\tc\td\n", 5, r"an id in \[0, 5"),
            ("entity_text.tsv", TEXT["entity_text.tsv"] + "3\ta\tb\tc\td\n", 5, r"that no line"),
            ("entity_text.tsv", TEXT["entity_text.tsv"] + "-1\ta\tb\tc\td\n", 5, r"an id in"),
            ("entity2text.txt", "Paris Paris\n", 1, "a name, a tab and a text"),
            ("ent_links.txt", "Paris\n", 1, "2 tab-separated fields"),
            ("X_SameAsLink.txt", "Paris Paris\n", 1, "name, SameAs, name"),
        ],
    )
    def test_malformed_lines_are_named(
        self, tmp_path: Path, name: str, text: str, line: int, expected: str
    ) -> None:
        folder = write(tmp_path / "toy", {**OPENKE, name: text})
        with pytest.raises(ValueError, match=expected) as error:
            load_graph(folder)
        assert str(error.value).startswith(f"{folder / name}, line {line}: expected ")

    def test_a_saved_text_table_is_checked(self, tmp_path: Path) -> None:
        folder = write(tmp_path / "toy", {**NATIVE, "texts.tsv": "id\ttext\n0\tx\n"})
        with pytest.raises(ValueError, match=r"texts\.tsv: expected 5 texts .* got 1"):
            load_graph(folder)

    def test_a_graph_refuses_texts_that_do_not_line_up(self) -> None:
        with pytest.raises(ValueError, match="expected 1 entity_texts, got 2"):
            MultimodalGraph(
                name="g",
                triples={s: np.zeros((1, 3), dtype=np.int64) for s in TRIPLES},
                entity_labels=("a",),
                relation_labels=("r",),
                entity_texts=("x", None),
            )


names = st.text(st.characters(codec="utf-8", categories=["L", "N", "P"]))


@settings(deadline=None, max_examples=60)
@given(
    entities=st.lists(names.filter(bool), min_size=2, max_size=6, unique=True),
    data=st.data(),
)
def test_formats_agree_on_any_names(
    tmp_path_factory: pytest.TempPathFactory, entities: list[str], data: st.DataObject
) -> None:
    ids = st.integers(0, len(entities) - 1)
    rows = data.draw(st.lists(st.tuples(ids, st.just(0), ids), min_size=1, max_size=8))
    folder = tmp_path_factory.mktemp("toy")
    tables = {
        "entity2id.txt": f"{len(entities)}\n"
        + "".join(f"{name} {i}\n" for i, name in enumerate(entities)),
        "relation2id.txt": "1\nr 0\n",
    }
    empty = {f"{split}.tsv": "" for split in ("valid", "test")}
    by_name = "".join(f"{entities[h]}\tr\t{entities[t]}\n" for h, _, t in rows)
    by_id = f"{len(rows)}\n" + "".join(f"{h} {t} 0\n" for h, _, t in rows)
    labelled = load_graph(write(folder / "labelled", {**tables, **empty, "train.tsv": by_name}))
    none = {"valid2id.txt": "0\n", "test2id.txt": "0\n"}
    openke = load_graph(write(folder / "openke", {**tables, **none, "train2id.txt": by_id}))
    assert labelled.triples["train"].tolist() == [list(row) for row in rows]
    assert labelled.metadata["entity_keys"] == entities
    assert openke.fingerprint == labelled.fingerprint
    save_graph(openke, folder / "saved")
    assert load_graph(folder / "saved").fingerprint == openke.fingerprint
    assert load_graph(folder / "saved").metadata["entity_keys"] == entities
