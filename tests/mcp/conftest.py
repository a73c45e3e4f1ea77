"""A workspace for an agent, a policy beside it, and a watch on what is left running."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from mcp_help import alive, policy_file

from profile_and_optimize.engines.reaper import descendants
from profile_and_optimize.mcp.policy import Policy, load_policy


@pytest.fixture
def work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The agent's folder; the user's configuration and cache are elsewhere and empty."""
    for name in ("XDG_CONFIG_HOME", "XDG_CACHE_HOME", "XDG_DATA_HOME"):
        monkeypatch.setenv(name, str(tmp_path / "home" / name.lower()))
    for name in ("PERFREPORT_CAMPAIGNS_DIR", "PAO_MCP_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "work"
    folder.mkdir()
    monkeypatch.chdir(folder)
    return folder


@pytest.fixture
def own_policy(work: Path) -> Callable[[str], Policy]:
    """A policy file outside of the workspace, read as the server does at its start."""

    def make(text: str = "") -> Policy:
        path = policy_file(work, text)
        return load_policy(str(path), work)

    return make


@pytest.fixture
def synthetic(work: Path, closed_run: Path) -> Path:
    """A published run in the agent's workspace."""
    return Path(shutil.copytree(closed_run, work / "campaigns" / closed_run.name))


@pytest.fixture
def no_child_left() -> Iterator[None]:
    """Fails a test that leaves a process running."""
    before = set(descendants(os.getpid()))
    yield
    left = set(descendants(os.getpid())) - before
    assert not {pid for pid in left if alive(pid)}
