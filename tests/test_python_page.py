"""Every block of code in docs/python.md runs, in their order, against mock servers and a synthetic run; so does the notebook."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from bench.notebook import PAGE as NOTEBOOK
from bench.notebook import cells, execute

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.engines.process import free_port

PAGE = Path(__file__).parents[1] / "docs/python.md"
BLOCKS = re.findall(r"^```python\n(.*?)^```$", PAGE.read_text(), re.M | re.S)


@pytest.fixture
def servers(tmp_path: Path) -> Iterator[tuple[Server, ...]]:
    engine = MockEngine()
    made = []
    for i, gap in enumerate(("2", "1.5")):
        arm = Arm("mock", "mock", Role.BASELINE, ("--ttft-ms", "5", "--itl-ms", gap, "--osl", "16"))
        made.append(engine.start(ServeSpec(arm, "mock", "mock", free_port(), tmp_path / f"mock-{i}.log")))
    yield tuple(made)
    for server in made:
        engine.stop(server)


@pytest.mark.slow
def test_the_code_of_the_page_runs(
    servers: tuple[Server, ...], closed_run: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:  # fmt: skip
    monkeypatch.chdir(tmp_path)
    shutil.copytree(closed_run, tmp_path / "campaigns" / closed_run.name)
    names: dict[str, Any] = {}
    for block in BLOCKS:
        code = block.replace("http://127.0.0.1:8000", servers[0].url).replace("http://127.0.0.1:8001", servers[1].url)
        if "run.requests()" in code and not _has_pandas():
            continue
        exec(compile(code, str(PAGE), "exec"), names)
    printed = capsys.readouterr().out
    assert "no such argument: concurency" in printed and "fast BETTER 0.109" in printed
    assert len(BLOCKS) >= 8


def _has_pandas() -> bool:
    try:
        import pandas  # noqa: F401
    except ImportError:
        return False
    return True


def test_the_notebook_is_what_its_script_holds_with_outputs_and_without_paths_of_a_machine() -> None:
    book = json.loads(NOTEBOOK.read_text())
    assert [(c["cell_type"], "".join(c["source"])) for c in book["cells"]] == list(cells())
    assert all(c["outputs"] is not None and c["execution_count"] for c in book["cells"] if c["cell_type"] == "code")
    text = NOTEBOOK.read_text()
    assert "text/html" in text and "Traceback" not in text
    assert not [p for p in ("/tmp", "/home", "/Users", "/root", "/work") if f'"{p}' in text or f" {p}/" in text]


def test_the_runner_keeps_what_a_cell_prints_and_what_its_last_line_is() -> None:
    book = execute([("markdown", "# A"), ("code", "print('x')\n1 + 1"), ("code", "y = 3")])
    one, two = book["cells"][1:]
    assert one["outputs"][0]["text"] == ["x\n"] and one["outputs"][1]["data"]["text/plain"] == ["2"]
    assert two["outputs"] == [] and book["cells"][0]["cell_type"] == "markdown" and book["nbformat"] == 4
