"""Engines and clients of other packages: listed without being run, named when they fail, and ignored when told so."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.ops.plugins import SWITCH, Plugin, installed, switched_off
from profile_and_optimize.ops.worlds import client_table, engine_table, make_client, make_engine

CODE = """
import pathlib
pathlib.Path({marker!r}).touch()
{rest}
class Engine:
    name, restarts = "theirs", True
class Broken:
    def __init__(self):
        raise RuntimeError("no licence")
"""


def install(folder: Path, points: str, monkeypatch: pytest.MonkeyPatch, rest: str = "") -> Path:
    """A package of somebody else in our environment; the file that appears when it is imported."""
    marker, name = folder / "imported", f"theirs_{len(list(folder.iterdir()))}"
    (folder / f"{name}.py").write_text(CODE.format(marker=str(marker), rest=rest))
    info = folder / "their_plugins-2.5.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: their-plugins\nVersion: 2.5\n")
    (info / "entry_points.txt").write_text(points.replace("MODULE", name))
    monkeypatch.syspath_prepend(str(folder))
    return marker


ENGINES = "[profile_and_optimize.engines]\n"


def test_plugins_are_listed_with_their_package_and_not_run(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    points = ENGINES + "theirs = MODULE:Engine\n[profile_and_optimize.clients]\nload = MODULE:Engine\n"
    marker = install(tmp_path, points, monkeypatch)
    found = Plugin("engine", "theirs", "theirs_0:Engine", "their-plugins", "2.5")
    assert (
        installed("engine") == (found,)
        and engine_table()["theirs"] == "theirs_0:Engine"
        and client_table()["load"] == "theirs_0:Engine"
    )
    assert pao(["tools", "list", "--tools-dir", str(tmp_path / "t"), "--json"]) == 0
    told = json.loads(capsys.readouterr().out)["result"]
    assert [p["name"] for p in told["plugins"]] == ["theirs", "load"] and told["plugins_ignored"] is False
    assert pao(["tools", "list", "--tools-dir", str(tmp_path / "t")]) == 0
    assert "engine theirs  theirs_0:Engine of their-plugins 2.5" in capsys.readouterr().out
    assert not marker.exists(), "a list imports nothing"
    assert make_engine("theirs", None).name == "theirs" and marker.exists()


def test_one_setting_ignores_them_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    marker = install(tmp_path, ENGINES + "theirs = MODULE:Engine\nvllm = MODULE:Engine\n", monkeypatch)
    with pytest.raises(WrongUse, match=f"two packages offer the engine 'vllm'.*{SWITCH}=1"):
        engine_table()
    monkeypatch.setenv(SWITCH, "1")
    assert "theirs" not in engine_table() and engine_table()["vllm"].startswith("profile_and_optimize.")
    with pytest.raises(WrongUse, match="unknown engine 'theirs'"):
        make_engine("theirs", None)
    assert pao(["tools", "list", "--tools-dir", str(tmp_path / "t")]) == 0
    assert f"plugins are ignored: {SWITCH} is set" in capsys.readouterr().out and not marker.exists()
    assert [switched_off({SWITCH: v}) for v in ("", "0", "1", "yes")] == [False, False, True, True]


@pytest.mark.parametrize(("points", "rest", "why"), [
    ("theirs = MODULE:Absent\n", "", "AttributeError"), ("theirs = MODULE:Broken\n", "", "no licence"),
    ("theirs = nowhere.at.all:X\n", "", "ModuleNotFoundError"),
    ("theirs = MODULE:Engine\n", "import sys; sys.exit(0)", "SystemExit"), ("theirs = MODULE:Engine\n", "1 / 0", "ZeroDivisionError"),
])  # fmt: skip
def test_a_plugin_that_does_not_load_names_itself_and_how_to_go_on(
    points: str, rest: str, why: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(
        tmp_path,
        ENGINES + points + points.replace("theirs", "[profile_and_optimize.clients]\ntheirs", 1),
        monkeypatch,
        rest,
    )
    for make in (lambda: make_engine("theirs", None), lambda: make_client("theirs")):
        with pytest.raises(WrongUse) as e:
            make()
        assert "'theirs' does not load" in e.value.message and why in e.value.message
        assert e.value.where in points.replace("MODULE", "theirs_0") and SWITCH in e.value.next
        sys.modules.pop("theirs_0", None)


def test_a_broken_plugin_does_not_stop_what_does_not_use_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    install(tmp_path, ENGINES + "theirs = MODULE:Engine\n", monkeypatch, "1 / 0")
    assert make_engine("mock", None).name == "mock"
