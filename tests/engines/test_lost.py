"""Why a server that was ready serves no longer: its process ended, or it answers its health check no more."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from profile_and_optimize.core.cell import Arm, Role
from profile_and_optimize.engines import process
from profile_and_optimize.engines.base import ServeSpec
from profile_and_optimize.engines.endpoint import EndpointEngine
from profile_and_optimize.engines.mock.engine import MockEngine
from profile_and_optimize.engines.process import ending, free_port
from profile_and_optimize.engines.reaper import descendants


def spec_of(tmp_path: Path) -> ServeSpec:
    return ServeSpec(Arm("a", "mock", Role.BASELINE), "mock", "m", free_port(), tmp_path / "log")


def test_a_server_killed_from_outside_is_lost_and_the_signal_is_named(tmp_path: Path) -> None:
    engine = MockEngine()
    server = engine.start(spec_of(tmp_path))
    try:
        assert engine.lost(server) == "" and server.pid is not None
        for pid in descendants(server.pid):
            os.kill(pid, signal.SIGKILL)
        assert engine.lost(server) == "the server was killed by signal 9, as the kernel does when memory runs out"
    finally:
        engine.stop(server)


def test_a_server_that_stands_still_is_lost_while_its_process_is_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "HEALTH_S", 0.2)
    engine = MockEngine()
    server = engine.start(spec_of(tmp_path))
    pids = descendants(server.pid or 0)
    try:
        for pid in pids:
            os.kill(pid, signal.SIGSTOP)
        time.sleep(0.1)
        assert engine.lost(server) == "GET /health failed (ReadTimeout), 4 times"
    finally:
        engine.stop(server)


def test_an_endpoint_is_lost_when_it_refuses_again_and_again(tmp_path: Path) -> None:
    mock = MockEngine()
    server = mock.start(spec_of(tmp_path))
    try:
        assert EndpointEngine().lost(server) == ""
    finally:
        mock.stop(server)
    assert "cannot be reached" in EndpointEngine().lost(server)


def test_an_end_is_said_in_words() -> None:
    assert ending(1) == "ended with code 1" and ending(None) == "ended with code None"
    assert ending(-15) == ending(256 - 15) == "was killed by signal 15"
    assert ending(137) == "ended with code 137"
