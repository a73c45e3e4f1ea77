"""Shared by all tests: a synthetic run, a mock server, and a bound on how long anything may take."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import settings

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.engines.base import Server, ServeSpec
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.engines.process import free_port
from profile_and_optimize.testing.forge import publish
from profile_and_optimize.testing.synthetic import synthetic_run

# Tests share their machine with whatever else runs there; campaigns on the mock server must not wait for it to be quiet.
os.environ.setdefault("PAO_QUIET_WAIT_S", "0")
# For the same reason no property has to be shown within a time.
settings.register_profile("shared-machine", deadline=None)
settings.load_profile("shared-machine")


@pytest.fixture(scope="session")
def closed_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A published synthetic run; do not write into it."""
    return publish(synthetic_run(tmp_path_factory.mktemp("space") / "20261121T090000Z-synthetic"))


@pytest.fixture
def run_copy(closed_run: Path, tmp_path: Path) -> Path:
    """A copy of it that a test may spoil."""
    return Path(shutil.copytree(closed_run, tmp_path / closed_run.name))


@pytest.fixture
def mock_server(tmp_path: Path, request: pytest.FixtureRequest) -> Iterator[Server]:
    """A mock server; options through `@pytest.mark.parametrize("mock_server", [("--itl-ms", "5")], indirect=True)`."""
    flags = getattr(request, "param", ("--ttft-ms", "5", "--itl-ms", "1", "--osl", "8"))
    engine = MockEngine()
    spec = ServeSpec(
        Arm("mock", "mock", Role.BASELINE, tuple(flags)), "mock", "mock", free_port(), tmp_path / "mock.log"
    )
    server = engine.start(spec)
    yield server
    engine.stop(server)
