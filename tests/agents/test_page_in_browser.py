"""The page in a real browser: it works from a file, asks nobody for anything, and fits a phone."""

import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from agents.report import render_report
from tests.agents.browser import CHROMIUM, Browser, address, browser
from tests.agents.test_report import EXPLORER, handmade

pytestmark = pytest.mark.skipif(
    CHROMIUM is None, reason="no Chromium is installed here to open the page with"
)
ROWS = "[...document.querySelectorAll('#results tbody tr')].map(row => row.cells[0].textContent)"
LISTED = "[...document.querySelectorAll('#queries button')].map(one => one.textContent)"
SHOWN = "document.getElementById('shown').innerText"


@pytest.fixture(scope="module")
def page(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("page") / "report.html"
    path.write_text(render_report(handmade(), EXPLORER), encoding="utf-8")
    return path


@pytest.fixture(scope="module")
def chromium() -> Iterator[Browser]:
    with browser() as opened:
        yield opened


def test_it_loads_without_an_error_and_asks_for_nothing(chromium: Browser, page: Path) -> None:
    chromium.open(address(page))
    assert chromium.errors == []
    assert chromium.requests == [address(page)]
    assert chromium("document.querySelector('main > :nth-child(2)').className") == "verdict"
    assert chromium("document.querySelectorAll('b b, main script:not([type])').length") == 0


def test_the_policy_holds(chromium: Browser, page: Path) -> None:
    """Markup that an escape forgot neither runs nor reaches a server that waits for it."""
    heard: list[str] = []

    class Listener(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            heard.append(self.path)
            self.send_error(404)

        def log_message(self, *arguments: object) -> None:
            pass

    # Threads, since a browser opens connections that it then leaves idle.
    server = ThreadingHTTPServer(("127.0.0.1", 0), Listener)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    base = f"http://127.0.0.1:{server.server_port}"
    leak = f'<img src="{base}/image"><link rel="stylesheet" href="{base}/style">'
    leak += f'<script src="{base}/script"></script><script>document.title = "run"</script>'
    leak += f'<iframe src="{base}/frame"></iframe><p onclick="1" style="background:url({base}/p)">'
    text = page.read_text("utf-8").replace("</main>", leak + "</main>")
    careless = page.with_name("careless.html")
    careless.write_text(text, encoding="utf-8")
    chromium.open(address(careless))
    assert heard == []
    assert chromium("document.title") == "DSoM-v0 on planted"
    assert len(chromium.errors) >= 5
    # And without the policy they would have: the listener listens.
    start = text.index("<meta http-equiv")
    careless.write_text(text[:start] + text[text.index(">", start) + 1 :], encoding="utf-8")
    chromium.open(address(careless))
    server.shutdown()
    server.server_close()
    assert {"/image", "/style", "/script", "/frame"} <= set(heard)
    assert chromium("document.title") == "run"


def test_a_click_sorts_and_a_second_one_turns_round(chromium: Browser, page: Path) -> None:
    chromium.open(address(page))
    assert chromium(ROWS) == ["oracle", "ppo", "all", "random"]
    name = "[...document.querySelectorAll('#results button')].find(b => b.textContent === '{}')"
    chromium(name.format("test MRR") + ".click()")
    assert chromium(ROWS) == ["random", "all", "ppo", "oracle"]
    chromium(name.format("test MRR") + ".click()")
    assert chromium(ROWS) == ["oracle", "ppo", "all", "random"]
    chromium(name.format("agent") + ".click()")
    assert chromium(ROWS) == ["random", "ppo", "oracle", "all"]
    sorted_by = "[...document.querySelectorAll('#results [aria-sort]')].map(c => c.textContent)"
    assert chromium(sorted_by) == ["agent"]
    # The address says so, and shows the same to somebody else.
    link = chromium("location.href")
    chromium.open(link.replace("order=down", "order=up"))
    assert chromium(ROWS) == ["all", "oracle", "ppo", "random"]


def test_numbers_are_sorted_as_numbers(chromium: Browser, tmp_path: Path) -> None:
    results = handmade()
    for run, seconds in zip(
        results["runs"], (100, 100, 100, 9, 9, 9, 20, 20, 20, 3, 3, 3), strict=True
    ):
        run["seconds"] = float(seconds)
    path = tmp_path / "report.html"
    path.write_text(render_report(results), encoding="utf-8")
    chromium.open(address(path, sort="seconds", order="down"))
    assert chromium(ROWS) == ["all", "oracle", "random", "ppo"]
    assert chromium.errors == [], "without an explorer, too"


def test_search_and_choice(chromium: Browser, page: Path) -> None:
    chromium.open(address(page))
    assert chromium(LISTED) == [
        "ant · eats · ?",
        "? · </script><b> · bee",
        "</script><script>alert(1)</script> · eats · ?",
    ]
    typed = """(text => {
      const field = document.getElementById('search');
      field.value = text;
      field.dispatchEvent(new Event('input'));
    })"""
    chromium(f"{typed}('EATS  ant')")
    assert chromium(LISTED) == ["ant · eats · ?"]
    assert "1 of 3 queries" in chromium("document.getElementById('found').textContent")
    shown = chromium(SHOWN)
    assert "small" in shown
    assert "</script><script>alert(1)</script> · eats · ant … of 7" in shown
    assert "ant · eats · ? →" in shown
    assert "(and 2 other known answers, left out)" in shown
    chromium(f"{typed}('nothing like it')")
    assert chromium(LISTED) == []
    chromium(f"{typed}('')")
    chromium("document.querySelectorAll('#queries button')[1].click()")
    assert "? · </script><b> · bee" in chromium(SHOWN)
    assert chromium("document.querySelector('#queries [aria-current=true]').textContent") == (
        "? · </script><b> · bee"
    )
    chromium.open(address(page, search="bee", query="1"))
    assert chromium(LISTED) == ["? · </script><b> · bee"]
    assert "? · </script><b> · bee" in chromium(SHOWN)


def test_what_is_shown_of_a_query(chromium: Browser, page: Path) -> None:
    chromium.open(address(page, query="0"))
    rows = chromium("""[...document.querySelectorAll('.who')].map(row => ({
      who: row.querySelector('b').textContent,
      rank: row.querySelector('.rank').textContent,
      masks: [...row.querySelectorAll('.mask')].map(one => [one.textContent, one.className]),
      chips: [...row.querySelectorAll('.chip')].map(one => [one.textContent.trim(), one.className]),
    }))""")
    by_name: dict[str, dict[str, Any]] = {row["who"]: row for row in rows}
    assert list(by_name) == ["text", "untrained, seed 0", "all", "ppo", "cycle"]
    assert by_name["text"]["rank"] == "rank 2"
    # The answer is bee, the second one.
    assert by_name["text"]["chips"][1:] == [["bee 40 %", "chip right"], ["ant < 1 %", "chip"]]
    assert by_name["all"]["rank"] == "rank 3 → 1"
    assert by_name["all"]["masks"] == [["text", "mask"], ["image", "mask"]]
    assert by_name["ppo"]["masks"] == [["text 0.25", "mask out"], ["image 0.80", "mask"]]
    assert by_name["cycle"]["masks"] == []
    assert chromium("document.querySelectorAll('.subject .picture').length") == 1
    chromium.open(address(page, query="2"))
    assert "rank 1,234 → 2" in chromium(SHOWN)
    assert "nobody" in chromium(SHOWN)
    assert chromium("document.querySelectorAll('.subject .picture').length") == 0


@pytest.mark.parametrize("dark", [False, True])
def test_a_phone_does_not_scroll_sideways(chromium: Browser, page: Path, dark: bool) -> None:
    chromium.open(address(page, query="0"), width=360, dark=dark)
    assert chromium("document.documentElement.scrollWidth") == 360
    colours = chromium("""(style => [style.color, style.backgroundColor])(
      getComputedStyle(document.body))""")
    ink, paper = (sum(map(int, c.split("(")[1].rstrip(")").split(","))) for c in colours)
    assert (ink > 600, paper < 150) == (dark, dark)
    assert chromium.errors == []
