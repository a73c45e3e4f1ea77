"""`bench/demo.py` judges a log and a run of `make demo`: each bar holds and fails where it should."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path
from types import ModuleType

import pytest

PATH = Path(__file__).parents[2] / "bench/demo.py"
LOG = """\
     0.5 ok       system: Linux
    20.0 [6/6] ready: download 612 MB in 76 s (8 MB/s)
    48.0   dtype-float32: 240 of 240 accuracy questions: pass
    70.0   gate 3 passed: 3 whole blocks, 0 excluded
   100.0 ended with 0
"""


@pytest.fixture(scope="module")
def bench() -> ModuleType:
    spec = importlib.util.spec_from_file_location("bench_demo", PATH)
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["bench_demo"] = module
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def run(tmp_path: Path) -> Path:
    (tmp_path / "report.html").write_text("page")
    (tmp_path / "report.pdf").write_text("page")
    (tmp_path / "report.txt").write_text("  open    quiet machine: 0.9 cores of other work\n")
    return tmp_path


def missed(
    bench: ModuleType, run: Path, log: str = LOG, verified: str = "HOLDS: all", busy_core: bool = False
) -> list[str]:
    return [b.name for b in bench.bars(log.splitlines(), run, verified, busy_core=busy_core) if not b.held]


def test_a_demo_within_every_bar_holds(bench: ModuleType, run: Path) -> None:
    assert missed(bench, run) == [] and missed(bench, run, busy_core=True) == []


@pytest.mark.parametrize(
    ("change", "bar"),
    [
        (("   100.0 ended", "  1000.0 still\n  1020.0 ended"), "time without downloads"),
        (("3 whole blocks", "2 whole blocks"), "whole blocks"),
        (("accuracy questions", "things"), "questions asked or named"),
        (("    48.0 ", "    18.0 "), "largest gap in the log"),
    ],
)
def test_a_log_that_misses_a_bar_is_said_so(bench: ModuleType, run: Path, change: tuple[str, str], bar: str) -> None:
    assert bar in missed(bench, run, LOG.replace(*change))


def test_downloads_are_apart(bench: ModuleType, run: Path) -> None:
    """976 s of which 76 s were downloads are 900 s."""
    lines = LOG.replace("   100.0 ended", "   976.0 ended")
    assert "time without downloads" not in missed(bench, run, lines)
    assert "time without downloads" in missed(bench, run, LOG.replace("   100.0 ended", "   977.0 ended"))


@pytest.mark.parametrize("said", ["BROKEN: 2 problems", "HOLDS IN PART: no pdf", ""])
def test_a_run_that_does_not_verify_or_lacks_a_report_is_said_so(bench: ModuleType, run: Path, said: str) -> None:
    (run / "report.pdf").unlink()
    assert missed(bench, run, verified=said) == ["both reports", "verify"]


def test_beside_a_busy_core_the_page_must_say_so(bench: ModuleType, run: Path) -> None:
    (run / "report.txt").write_text("  pass    quiet machine: at most 0.01 cores of other work\n")
    assert missed(bench, run, busy_core=True) == ["the page says that the machine was not quiet"]
