"""`docs/results.md` from handmade results: every figure here was worked out by hand."""

import json
import re
import subprocess
from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from agents.report.markdown import best_student, distances, render_results
from agents.report.outcome import parse_results, shown_command
from agents.report.published import Published, parse_published
from graphs import load_graph
from tests.programs import program

ROOT = Path(__file__).parents[2]
DB15K = "/somebody/home/shared/DB15K"


def run_of(agent: str, seed: int, mrr: float, best_epoch: int = 10, **more: Any) -> dict[str, Any]:
    metrics = {"mrr": mrr, "hits@1": mrr - 0.1, "hits@3": mrr + 0.05, "hits@10": mrr + 0.2}
    return {
        "agent": agent,
        "seed": seed,
        "valid": metrics | {"mrr": mrr + 0.01},
        "test": metrics,
        "seconds": 100.0 + seed,
        "search_epochs": 0.0,
        "best_epoch": best_epoch,
        **more,
    }


def results_of(runs: list[dict[str, Any]], **config: Any) -> dict[str, Any]:
    teacher = {"mrr": 0.4, "hits@1": 0.3, "hits@3": 0.45, "hits@10": 0.6}
    command = ["python", "/opt/x/scripts/compare.py", "--dataset", DB15K, "--out", "/opt/runs/db"]
    return {
        "format": 1,
        "complete": True,
        "config": {
            "agents": ["all"],
            "seeds": [0, 1, 2],
            "dataset": DB15K,
            "teachers": None,
            "epochs": 20,
            "batch": 1000,
            "environment": {"rank": 3, "teacher_rank": 200},
            **config,
        },
        "graph": {
            "name": "DB15K",
            "fingerprint": "f",
            "entities": 12842,
            "relations": 279,
            "triples": {"train": 71741, "valid": 7481, "test": 9902},
        },
        "teachers": {"structure": {"valid": teacher, "test": teacher | {"mrr": 0.35}}},
        "provenance": {
            "command": " ".join(command),
            "machine": "A processor",
            "cores": 2,
            "python": "3.11.9",
            "versions": {"torch": "2.13"},
        },
        "runs": runs,
        "failures": [],
    }


@pytest.fixture
def three_seeds() -> dict[str, Any]:
    """`all` has test MRR .36, .37, .38; `none` has .30 on one seed."""
    runs = [run_of("all", seed, 0.36 + 0.01 * seed, best_epoch=17 + seed) for seed in range(3)]
    return results_of([*runs, run_of("none", 0, 0.30, search_epochs=48.0)])


@pytest.fixture(scope="module")
def published() -> Published:
    return parse_published(json.loads((ROOT / "docs/published.json").read_text("utf-8")))


def page_of(published: Published, *results: dict[str, Any]) -> str:
    return render_results([parse_results(one) for one in results], published)


def row_of(page: str, first: str) -> str:
    """The only row of a table that starts with `first`, without its outer bars and blanks."""
    (row,) = [line for line in page.splitlines() if line.startswith(f"| {first} |")]
    return "|".join(cell.strip() for cell in row.strip("|").split("|"))


def test_a_row_by_hand(three_seeds: dict[str, Any], published: Published) -> None:
    row = row_of(page_of(published, three_seeds), "`all`").split("|")
    assert row[:4] == ["`all`", "3", "38.00", "37.00"]
    low, high = map(float, row[4].strip("[]").split(","))
    assert 36 <= low < 37 < high <= 38
    assert row[5:8] == ["27.00", "42.00", "57.00"]
    # Epochs 17, 18, 19 of 20: the last tenth begins after epoch 18.
    assert row[8:] == ["101", "17–19", "1 of 3"]
    row = row_of(page_of(published, three_seeds), "`none`")
    assert row == "`none`|1|31.00|30.00|–|20.00|35.00|50.00|100|10|no"


def test_beside_what_papers_print(three_seeds: dict[str, Any], published: Published) -> None:
    page = page_of(published, three_seeds)
    # M-Hyper has 41.25: 37.00 is 4.25 points below.
    assert "MRR 4.25 points below (M-Hyper, 41.25)" in page
    assert "The goal, a unimodal student above the best of them, is not reached." in page
    assert row_of(page, "DB15K") == "DB15K|`all`|3|37.00|27.00|57.00|MRR -4.25"
    assert row_of(page, "HFR-MKGC") == "HFR-MKGC|multimodal|35.2|AAAI 2026|collected"
    assert "drawn anew from train: 71,741 of the published 79,222" in page
    assert "The test split is the published one." in page
    assert "Student epochs per seed spent beyond this budget, to search: `none` 48." in page
    assert row_of(page, "`structure`") == "`structure`|40.00|35.00|30.00|45.00|60.00"
    # 3 + 102·3 + 100 seconds; 2·3 numbers for each entity and each relation of both directions.
    assert "Trials took 7 min one after the other" in page
    assert f"{6 * (12842 + 2 * 279):,} parameters" in page
    assert "teachers of rank 200, at most 60 epochs of batch 512, λ 0.02" in page
    assert "Seeds 0, 1, 2. Student λ 0.01, γ 3.0; " in page
    assert "A processor, 2 cores; Python 3.11.9, torch 2.13." in page


def test_head_room_in_percent(three_seeds: dict[str, Any], published: Published) -> None:
    """The oracle is 4 points above `all`; ppo, 1 point above, realises a quarter."""
    assert "ead-room: " not in page_of(published, three_seeds)
    more = [run_of("oracle", seed, 0.40 + 0.01 * seed) for seed in range(3)]
    more += [run_of("ppo", seed, 0.37 + 0.01 * seed) for seed in range(3)]
    three_seeds["runs"] += more
    page = page_of(published, three_seeds)
    assert "Head-room: oracle beats all by +4.00 MRR [+4.00, +4.00]." in page
    assert row_of(page, "`ppo`").split("|")[-1] == "25 % [25 %, 25 %]"
    assert row_of(page, "`all`").split("|")[-1] == row_of(page, "`oracle`").split("|")[-1] == "–"


def test_teachers_may_differ_in_regularisation(published: Published) -> None:
    by_name = {"text": 0.001, "default": 0.05}
    results = results_of([run_of("all", 0, 0.3)], environment={"teacher_regularisation": by_name})
    assert "batch 512, λ 0.05 (text 0.001)." in page_of(published, results)


def test_a_uniform_teacher_is_none(three_seeds: dict[str, Any], published: Published) -> None:
    teachers = {"uniform": three_seeds["teachers"].popitem()[1]}
    page = page_of(published, three_seeds | {"teachers": teachers})
    assert "teachers of rank" not in page
    assert "| teacher |" not in page
    both = page_of(published, three_seeds | {"teachers": teachers | {"text": teachers["uniform"]}})
    assert "teachers of rank" in both
    assert "`uniform`" in both


def test_the_goal_is_reached_above_every_known_metric(published: Published) -> None:
    """FB15k-237 has no multimodal MRR: IMF's Hits@1 28.7 and Hits@10 59.3 decide."""
    results = results_of([run_of("all", 0, 0.395)])
    results["graph"] |= {"name": "fb15k-237", "triples": {"train": 1, "valid": 1, "test": 20466}}
    page = page_of(published, results)
    assert "Hits@1 0.80 points above (IMF, 28.7); Hits@10 0.20 points above (IMF, 59.3)" in page
    assert "is reached." in page
    assert "unimodal one: MRR 2.50 points above (ComplEx-N3, rank 2000, 37)" in page
    results["runs"] = [run_of("all", 0, 0.39)]
    page = page_of(published, results)
    assert "Hits@1 0.30 points above (IMF, 28.7); Hits@10 0.30 points below (IMF, 59.3)" in page
    assert "is not reached." in page


def test_the_best_student_is_chosen_by_valid(three_seeds: dict[str, Any]) -> None:
    flattered = run_of("random", 0, 0.7)
    flattered["valid"]["mrr"] = 0.2
    three_seeds["runs"].append(flattered)
    outcome = parse_results(three_seeds)
    assert outcome.agents[0].agent == "random"
    assert best_student([outcome])[1].agent == "all"


def test_the_published_split_has_a_section_of_its_own(
    three_seeds: dict[str, Any], published: Published
) -> None:
    other = results_of([run_of("all", 0, 0.42)], dataset=f"{DB15K}:valid=published")
    other["graph"]["triples"] = {"train": 79222, "valid": 9904, "test": 9902}
    other["provenance"]["command"] = f"python compare.py --dataset={DB15K}:valid=published"
    page = page_of(published, other, three_seeds)
    headings = re.findall(r"^## (.*)$", page, re.MULTILINE)
    assert headings == ["DB15K", "DB15K, published valid split"]
    first, second = page.split("## DB15K, published valid split")
    assert "6,584 are in train and 824 in test" in second
    assert "drawn anew" not in second
    assert "MRR 0.75 points above (M-Hyper, 41.25)" in second
    assert "python scripts/compare.py --dataset=data/DB15K:valid=published" in second
    assert "python scripts/compare.py --dataset data/DB15K --out runs/db" in first


def test_two_comparisons_on_a_graph_share_a_section(
    three_seeds: dict[str, Any], published: Published
) -> None:
    other = results_of([run_of("ppo", 0, 0.41)], environment={"rank": 5}, epochs=7)
    other["complete"], other["graph"]["fingerprint"] = False, "g"
    page = page_of(published, three_seeds, other)
    assert page.count("## DB15K\n") == 1
    assert "### complex, rank 5, 7 epochs of batch 1000 (partial results)" in page
    assert "`ppo`'s (rank 5, 7 epochs, one seed, partial results): test MRR 41.00." in page
    assert "different versions of this graph" in page


def test_other_graphs_and_other_test_splits_are_not_compared(
    three_seeds: dict[str, Any], published: Published
) -> None:
    other = deepcopy(three_seeds)
    other["graph"]["triples"]["test"] = 9000
    page = page_of(published, other)
    assert "of a test split of 9,902 triples and do not compare" in page
    assert "M-Hyper" not in page
    other["graph"]["name"] = "mine"
    assert "No published figure of this graph is known to us." in page_of(published, other)


def test_no_place_of_a_machine_is_shown(three_seeds: dict[str, Any], published: Published) -> None:
    assert not re.search(r"/somebody|/opt|home", page_of(published, three_seeds))
    for dataset, shown in (
        ("../shared/data/DB15K", "data/DB15K"),
        ("/a b/DB15K:coverage=0.5,valid=published", "data/DB15K:coverage=0.5,valid=published"),
        ("data/DB15K/", "data/DB15K"),
        ("DB15K", "DB15K"),
    ):
        command = f"python '/a b/compare.py' --dataset '{dataset}' --set gamma=3 --out=/z/y"
        expected = f"python scripts/compare.py --dataset {shown} --set gamma=3 --out=runs/y"
        assert shown_command(command, dataset, "DB15K") == expected
    planted = "planted:entities=160,relations=4"
    command = f"python scripts/compare.py --dataset {planted} --out runs/x"
    assert shown_command(command, planted, "planted") == command


def test_a_folders_graph_has_the_folders_name(tmp_path: Path) -> None:
    folder = tmp_path / "MKG-W"
    folder.mkdir()
    for split, facts in (("train", "abc"), ("valid", "d"), ("test", "e")):
        (folder / f"{split}.tsv").write_text("".join(f"{fact}\tr\tz\n" for fact in facts))
    for given in ("MKG-W", "MKG-W/", "MKG-W:valid=published", "MKG-W/../MKG-W"):
        assert load_graph(f"{tmp_path}/{given}").name == "MKG-W"


def test_published_figures_are_those_of_the_design_notes(published: Published) -> None:
    best = {
        name: {
            metric: (figure.model, gap)
            for metric, gap, figure in distances(dict.fromkeys(METRIC_NAMES, 100.0), graph, True)
        }
        for name, graph in published.graphs.items()
    }
    assert best["MKG-W"] == {"mrr": ("HFR-MKGC", pytest.approx(61.38))}
    assert best["MKG-Y"] == {"mrr": ("MyGO + Beyond Images", pytest.approx(59.23))}
    assert best["WN18"]["hits@1"] == ("MoSE", pytest.approx(5.2))
    assert published.graph("wn18") is published.graphs["WN18"]


METRIC_NAMES = ("mrr", "hits@1", "hits@3", "hits@10")


def test_the_program_writes_the_page(
    three_seeds: dict[str, Any], published: Published, tmp_path: Path
) -> None:
    (tmp_path / "results.json").write_text(json.dumps(three_seeds))
    done = program("results.py", tmp_path, "--out", tmp_path / "results.md")
    assert done.returncode == 0, done.stderr
    assert (tmp_path / "results.md").read_text("utf-8") == page_of(published, three_seeds)
    assert program("results.py", tmp_path / "results.json").stdout == page_of(
        published, three_seeds
    )
    assert json.loads((tmp_path / "results.json").read_text("utf-8")) == three_seeds


def broken(results: dict[str, Any], *path: str, value: object) -> str:
    changed = deepcopy(results)
    target: Any = changed
    for key in path[:-1]:
        target = target[int(key) if key.isdigit() else key]
    target[path[-1]] = value
    return json.dumps(changed)


def test_other_files_are_refused(three_seeds: dict[str, Any]) -> None:
    for content, says in (
        ("[]", "not the result of a comparison"),
        ("{}", "not the result of a comparison"),
        (broken(three_seeds, "format", value=2), "format 2"),
        (broken(three_seeds, "runs", value=[]), "no trial has finished"),
        (broken(three_seeds, "runs", "0", "test", "mrr", value=36.0), "mrr must lie in"),
        (broken(three_seeds, "runs", "0", "test", "mrr", value=float("nan")), "mrr must lie"),
        (broken(three_seeds, "graph", value=None), "not the result of a comparison"),
    ):
        with pytest.raises(ValueError, match=says):
            parse_results(json.loads(content))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"mrr": 0.41}, "in percent"),
        ({"mark": "sure"}, "'sure' is not explained"),
        ({"mmr": 41}, "mmr"),
        ({"multimodal": "no"}, "true or false"),
    ],
)
def test_other_tables_are_refused(change: dict[str, Any], says: str) -> None:
    figure = {"model": "M", "source": "S", "mark": "m", "multimodal": True, "mrr": 41} | change
    graph = {"train_triples": 1, "test_triples": 1, "figures": [figure]}
    table = {"format": 1, "marks": {"m": "x"}, "graphs": {"G": graph}}
    with pytest.raises(ValueError, match=says):
        parse_published(table)


def test_bad_input_is_one_sentence(three_seeds: dict[str, Any], tmp_path: Path) -> None:
    path, out = tmp_path / "results.json", tmp_path / "page.md"
    path.write_text("{")
    assert_refused(program("results.py", path, "--out", out), "results.json")
    path.write_text(json.dumps(three_seeds))
    assert_refused(program("results.py", path, tmp_path, "--out", out), "twice")
    assert_refused(program("results.py", tmp_path / "nowhere", "--out", out), "nowhere")
    assert_refused(
        program("results.py", path, "--published", path, "--out", out), "published figures"
    )
    assert not out.exists()


def assert_refused(done: subprocess.CompletedProcess[str], says: str) -> None:
    assert done.returncode == 2
    assert done.stderr.startswith("error:")
    assert len(done.stderr.splitlines()) == 1
    assert says in done.stderr
