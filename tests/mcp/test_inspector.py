"""A client that somebody else wrote: the command line of MCP Inspector, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from mcp_help import CAMPAIGN

from profile_and_optimize.mcp import EXECUTABLE, schema
from profile_and_optimize.ops.base import all_ops

NODE, INSPECTOR = "node@22", "@modelcontextprotocol/inspector@2.12.0"
PROGRAM = str(Path(sys.executable).with_name(EXECUTABLE))
pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def inspector(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder of its programs. npm leaves out versions that the node on its own PATH is too old for: node comes first."""
    if shutil.which("npm") is None:
        pytest.skip("npm is not here, so MCP Inspector cannot be installed")
    folder = tmp_path_factory.mktemp("inspector")
    for package in (NODE, INSPECTOR):
        try:
            done = subprocess.run(
                ["npm", "install", "--no-audit", "--no-fund", package], cwd=folder, env=on_path(folder), capture_output=True, text=True,
                timeout=400, check=False,
            )  # fmt: skip
        except subprocess.TimeoutExpired:
            pytest.skip(f"npm took too long to install {package}")
        if done.returncode:
            pytest.skip(f"npm cannot install {package}: {done.stderr.strip()[-200:]}")
    return folder


def on_path(folder: Path) -> dict[str, str]:
    return {
        **os.environ,
        "PATH": f"{folder / 'node_modules/.bin'}{os.pathsep}{os.environ['PATH']}",
        "HOME": str(folder),
    }


def inspect(inspector: Path, work: Path, era: str, *argv: str) -> tuple[int, Any, str]:
    """(exit code, what it printed as JSON, what it said on stderr)."""
    command = ["mcp-inspector", "--cli", PROGRAM, "--protocol-era", era, *argv]
    path = shutil.which(command[0], path=on_path(inspector)["PATH"])
    assert path
    done = subprocess.run(
        [path, *command[1:]], cwd=work, env=on_path(inspector), stdin=subprocess.DEVNULL, capture_output=True, text=True,
        timeout=120, check=False,
    )  # fmt: skip
    return done.returncode, json.loads(done.stdout or "null"), done.stderr


def called(inspector: Path, work: Path, era: str, verb: str, *pairs: str) -> dict[str, Any]:
    arguments = ["--tool-arg", *pairs] if pairs else []
    name = schema.tool_name(all_ops()[verb])
    _, found, said = inspect(inspector, work, era, "--method", "tools/call", "--tool-name", name, *arguments)
    assert found, said
    return dict(found["structuredContent"])


@pytest.mark.parametrize("era", ["legacy", "modern"])
def test_inspector_lists_calls_and_cannot_acknowledge(inspector: Path, work: Path, synthetic: Path, era: str) -> None:
    code, listed, said = inspect(inspector, work, era, "--method", "tools/list", "--strict")
    assert (code, said.strip()) == (0, ""), said
    assert [t["name"] for t in listed["tools"]] == list(schema.tool_ops())
    assert all(t["outputSchema"] and t["annotations"] for t in listed["tools"])
    assert called(inspector, work, era, "verify", "campaign=synthetic")["ok"]
    (work / "c.yaml").write_text(CAMPAIGN)
    assert called(inspector, work, era, "campaign_init", "config=c.yaml")["ok"]
    before = sorted(work.rglob("*"))
    asked = called(inspector, work, era, "campaign_run", "campaign=two-mocks")
    assert asked["error"]["code"] == "refused" and "cannot ask" in asked["error"]["message"]
    alone = called(inspector, work, era, "campaign_run", "campaign=two-mocks", "i_understand_this_submits_jobs=true")
    assert alone["error"]["message"].startswith("i_understand_this_submits_jobs")
    assert sorted(work.rglob("*")) == before
    assert called(inspector, work, era, "verify", "campaign=../../etc")["error"]["code"] == "refused"
