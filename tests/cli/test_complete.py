"""One Tab, as the shells' scripts ask for it; and the scripts themselves."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest
from click.shell_completion import BashComplete

from profile_and_optimize.cli.main import program
from profile_and_optimize.cli.main import run as pao


@pytest.fixture(autouse=True)
def workspace(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("PERFREPORT_CAMPAIGNS_DIR", "runs")
    for name in ("20260101T000000Z-a", "20260102T000000Z-b", "20260103T000000Z-b", "notes"):
        (tmp_path / "runs" / name).mkdir(parents=True)


def tab(*words: str) -> list[str]:
    """What completes the last of the words after `pao`."""
    group = program()
    group.sketched = True
    found = BashComplete(group, {}, "pao", "PAO_COMPLETE").get_completions(list(words[:-1]), words[-1])
    return [item.value if item.type == "plain" else item.type for item in found]


@pytest.mark.parametrize(("words", "found"), [
    (("ver",), ["verify"]),
    (("run_c",), ["run_controlled_ab"]),
    (("run-",), ["run-variant-ab", "run-controlled-ab"]),
    (("verify", "--ag"), ["--against"]),
    (("bench", "--focu"), []),
    (("ab", "--focus", "l"), ["latency"]),
    (("verify", "2026"), ["20260103T000000Z-b", "20260102T000000Z-b", "20260101T000000Z-a"]),
    (("verify", "a"), ["a"]),
    (("verify", "b"), ["file"]),  # two runs have this slug, so it names none
    (("explain", "--campaign", "a"), ["a"]),
    (("tools", "ins"), ["install"]),
    (("tools", "install", "ei"), []),
    (("tools", "install", "guid"), ["guidellm"]),
    (("optimize", "--suite", "demo-sh"), ["demo-short"]),
    (("optimize", "--engines", "vllm,sg"), ["vllm,sglang"]),
    (("optimize", "--levers", "threads"), ["threads-all"]),
    (("lint", "result"), ["file"]),
    (("mcp", "ins"), ["install"]),
    (("mcp", "serve", "--ht"), ["--http"]),
    (("completion", "z"), ["zsh"]),
])  # fmt: skip
def test_a_tab_gives_what_fits(words: tuple[str, ...], found: list[str]) -> None:
    assert tab(*words) == found


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_scripts_are_ones_that_their_shell_reads(shell: str, capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["completion", shell]) == 0
    script = capsys.readouterr().out
    assert f"PAO_COMPLETE={shell}_complete" in script
    if shutil.which(shell) is None:
        pytest.skip(f"{shell} is not installed, so its script was printed and not read")
    subprocess.run([shell, "-n"], input=script, text=True, check=True, timeout=20)
