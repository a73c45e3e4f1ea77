"""Reports: texts from outside stay texts, in HTML, JSON, Markdown and shell; the page fetches nothing and runs no script but its own."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import shlex
import shutil
import subprocess
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hostile import FOLDER, HOSTILE, moves_a_terminal
from markdown_it import MarkdownIt

from profile_and_optimize.report.words import verify_command

PAGES = ("CHAMPION.md", "HANDOFF.md", "summary.md", "SOURCE.md")
CHROMIUM = shutil.which("chromium")


class Elements(HTMLParser):
    """Every element with its attributes, and the text of the scripts."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None]]] = []
        self.scripts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        if self.found and self.found[-1][0] == "script" and self.cdata_elem == "script":
            self.scripts.append(data)


@pytest.fixture(scope="module")
def page(hostile_run: Path) -> Elements:
    return Elements((hostile_run / "report.html").read_text())


def test_the_attacks_are_in_the_page_as_text(hostile_run: Path) -> None:
    """Else the tests below would prove nothing."""
    text = (hostile_run / "report.html").read_text()
    assert text.count("&lt;img src=x onerror=alert(1)&gt;") > 20
    for place in ("Model", "Hardware, node", "Engine"):
        assert re.search(rf"<dt>{place}</dt><dd>[^<]*onerror", text), place


def test_no_element_and_no_handler_came_from_outside(page: Elements) -> None:
    tags = {tag for tag, _ in page.found}
    assert not tags & {"img", "iframe", "object", "embed", "link", "base", "form"}
    assert sum(tag == "script" for tag, _ in page.found) == 2
    names = [(tag, k, v) for tag, attrs in page.found for k, v in attrs.items()]
    assert not [n for n in names if n[1].startswith("on")]
    assert not [
        n for n in names if n[1] in ("href", "src") and re.match(r"\s*(javascript|data|https?):", n[2] or "", re.I)
    ]


def test_the_policy_lets_our_own_script_run_and_nothing_else(page: Elements) -> None:
    policy = next(a["content"] for t, a in page.found if a.get("http-equiv") == "Content-Security-Policy") or ""
    told = dict(part.strip().split(" ", 1) for part in policy.split(";"))
    ours = base64.b64encode(hashlib.sha256(page.scripts[-1].encode()).digest()).decode()
    assert told.pop("script-src") == f"'sha256-{ours}'"
    assert told == {
        "default-src": "'none'", "style-src": "'unsafe-inline'", "img-src": "data:", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip


def test_inlined_json_cannot_leave_its_element(page: Elements) -> None:
    data = page.scripts[0]
    assert not set("<>&\u2028\u2029") & set(data)
    assert HOSTILE in [f["observed"] for row in json.loads(data)["atlas"] for f in row["context"].values()]


@pytest.mark.parametrize("name", PAGES)
def test_markdown_from_outside_is_text_in_any_viewer(hostile_run: Path, closed_run: Path, name: str) -> None:
    text = (hostile_run / name).read_text()
    tokens = MarkdownIt("commonmark", {"html": True}).enable("table").parse(text)
    every = {t.type for token in tokens for t in (token, *(token.children or ()))}
    assert "onerror" in text and not every & {"html_block", "html_inline", "image", "link_open", "hr"}
    # A heading from outside would show as one more than an honest run has.
    honest = closed_run / name
    expected = re.findall(r"^#+ ", honest.read_text(), re.M) if honest.exists() else ["# ", "## "]
    assert sum(t.type == "heading_open" for t in tokens) == len(expected)
    rows = [i for i, t in enumerate(tokens) if t.type == "tr_open"]
    wide = {sum(t.type in ("th_open", "td_open") for t in tokens[i : _row_end(tokens, i)]) for i in rows}
    heads = {sum(t.type == "th_open" for t in tokens[i : _row_end(tokens, i)]) for i in rows} - {0}
    assert wide == heads, "a pipe from outside made a column"


def _row_end(tokens: list, at: int) -> int:
    return next(i for i in range(at, len(tokens)) if tokens[i].type == "tr_close")


@pytest.mark.parametrize("name", (*PAGES, "report.txt", "report.html", "serve.sh"))
def test_no_rendered_file_holds_a_character_that_a_terminal_acts_on(hostile_run: Path, name: str) -> None:
    """The JSON inside the page is data, and may hold what was measured."""
    text = re.sub(r'<script type="application/json".*?</script>', "", (hostile_run / name).read_text(), flags=re.S)
    assert moves_a_terminal(text) == []


def test_a_script_that_is_not_ours_may_be_run_in_a_folder_of_any_name(hostile_run: Path, tmp_path: Path) -> None:
    """The folder's name, the model and the levers stand in comments of serve.sh: none may end one."""
    script = (hostile_run / "serve.sh").read_text()
    done = subprocess.run(
        ["bash", "-c", script], cwd=tmp_path, env={"PATH": "/usr/bin:/bin"}, capture_output=True, text=True, timeout=30
    )
    assert done.returncode == 127 and "fake-serve" in done.stderr and list(tmp_path.iterdir()) == []


def test_the_command_that_a_page_offers_for_pasting_is_one_word_long(hostile_run: Path, tmp_path: Path) -> None:
    command = verify_command(FOLDER)
    assert len(shlex.split(command)) == 3 and verify_command("20260101T000000Z-x") == "pao verify 20260101T000000Z-x"
    subprocess.run(
        ["bash", "-c", f"pao() {{ :; }}; {command}"],
        cwd=tmp_path,
        env={"PATH": "/usr/bin:/bin"},
        check=True,
        timeout=30,
    )
    assert list(tmp_path.iterdir()) == []
    for name in ("report.txt", "CHAMPION.md", "HANDOFF.md"):
        assert "pao verify '" in (hostile_run / name).read_text()


@pytest.mark.slow
@pytest.mark.skipif(CHROMIUM is None, reason="no chromium on this machine: apt-get install chromium")
def test_what_slips_through_the_escaping_is_stopped_by_the_policy(hostile_run: Path, tmp_path: Path) -> None:
    """In a real browser: elements planted into the page as if the escaping had failed do not run and fetch nothing."""
    text = (hostile_run / "report.html").read_text()
    planted = "<img src=x onerror=\"document.title='pwned'\"><script>document.title='pwned'</script><a onclick=x>"
    (tmp_path / "p.html").write_text(text.replace("<main>", "<main>" + planted, 1))
    argv = [
        str(CHROMIUM),
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--no-first-run",
        "--disable-background-networking",
    ]
    argv += [f"--user-data-dir={tmp_path / 'profile'}", "--dump-dom", (tmp_path / "p.html").as_uri()]
    dom = subprocess.run(argv, capture_output=True, text=True, timeout=120, check=True).stdout
    assert '<div class="tools" id="tools">' in dom, "our own script still runs"
    assert "<title>pwned" not in dom
