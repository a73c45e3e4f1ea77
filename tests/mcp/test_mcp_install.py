"""A client's configuration gains one entry and loses nothing."""

from __future__ import annotations

import json
import os
import tomllib
from pathlib import Path

import pytest

from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.mcp import KEY
from profile_and_optimize.mcp.install import CLIENTS, entry, executable, planned

JSON = json.dumps(
    {"other": {"keep": [1, 2.5, None]}, "mcpServers": {"theirs": {"command": "x", "args": ["ä"]}}},
    indent=4,
    ensure_ascii=False,
)
TOML = """# my settings
model = "o3"  # keep this comment

[mcp_servers.theirs]
command = "x"
args = ["[a]"]

[profiles.fast]
model = "mini"
"""


def install(*argv: str) -> int:
    return pao(["mcp", "install", *argv])


@pytest.mark.parametrize(("client", "name", "text"), [
    ("claude", ".mcp.json", JSON), ("cursor", ".cursor/mcp.json", JSON), ("codex", "config.toml", TOML),
])  # fmt: skip
def test_it_is_entered_once_beside_what_is_there(
    work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], client: str, name: str, text: str
) -> None:
    monkeypatch.setenv("CODEX_HOME", str(work))
    path = work / name
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    path.chmod(0o640)
    assert install("--client", client, "--dry-run") == 0
    assert path.read_text() == text
    shown = capsys.readouterr().out
    assert "+++" in shown and KEY in shown and '\n-    "other' not in shown and "\n-command" not in shown
    assert install("--client", client, "--workspace", ".") == 0
    after = path.read_text()
    read = (tomllib if client == "codex" else json).loads
    table = "mcp_servers" if client == "codex" else "mcpServers"
    old, new = read(text), read(after)
    ours = new[table].pop(KEY)
    assert new == old and path.stat().st_mode & 0o777 == 0o640
    assert ours["command"] == str(executable()) and os.access(ours["command"], os.X_OK)
    assert ours["args"] == ["--workspace", str(work)]
    assert client != "codex" or (after.startswith(TOML) and ours["tool_timeout_sec"] > 60)
    assert install("--client", client, "--workspace", ".") == 0
    assert path.read_text() == after and "there already" in capsys.readouterr().out


@pytest.mark.parametrize("client", sorted(CLIENTS))
def test_it_is_made_where_there_is_none(work: Path, client: str) -> None:
    path = work / "new" / "settings"
    assert install("--client", client, "--config", str(path)) == 0
    assert KEY in path.read_text() and path.stat().st_mode & 0o777 == 0o600
    assert list(path.parent.iterdir()) == [path]


def test_an_older_entry_is_brought_up_to_date_and_keeps_its_other_keys(work: Path) -> None:
    path = work / "config.toml"
    path.write_text(
        f'a = 1\n[mcp_servers.{KEY}]\ncommand = "old"\nargs = [\n  "--old",\n]\ntool_timeout_sec = 5\n'
        f'[mcp_servers.{KEY}.env]\nX = "1"\n[z]\nb = 2\n'
    )
    assert install("--client", "codex", "--config", str(path)) == 0
    new = tomllib.loads(path.read_text())
    ours = new["mcp_servers"][KEY]
    assert (new["a"], new["z"], ours["env"], ours["tool_timeout_sec"]) == (1, {"b": 2}, {"X": "1"}, 5)
    assert ours["command"] == str(executable()) and ours["args"] == []
    other = work / "c.json"
    other.write_text(json.dumps({"mcpServers": {KEY: {"command": "old", "env": {"X": "1"}}}}))
    assert install("--client", "claude", "--config", str(other)) == 0
    assert json.loads(other.read_text())["mcpServers"][KEY]["env"] == {"X": "1"}


@pytest.mark.parametrize(("client", "text"), [
    ("claude", "{"), ("claude", "[]"), ("claude", '{"mcpServers": []}'), ("claude", '{"mcpServers": 1, "mcpServers": {}}'),
    ("cursor", '{"a": 1} // comment'), ("cursor", f'{{"mcpServers": {{"{KEY}": 1}}}}'),
    ("codex", "a = "), ("codex", "mcp_servers = 1"), ("codex", f"[mcp_servers]\n{KEY} = 1"),
    ("codex", 'mcp_servers = {x = {command = "y"}}'),
    ("codex", f'[mcp_servers]\n{KEY} = {{command = "inline"}}'),
])  # fmt: skip
def test_a_file_that_cannot_be_changed_safely_is_left_alone(work: Path, client: str, text: str) -> None:
    path = work / "settings"
    path.write_text(text)
    with pytest.raises(WrongUse, match="cannot be read"):
        planned(client, str(path), entry(None, None))
    assert install("--client", client, "--config", str(path)) == 2
    assert path.read_text() == text


def test_a_link_stays_a_link(work: Path) -> None:
    (work / "real.json").write_text("{}")
    (work / "link.json").symlink_to("real.json")
    assert install("--client", "claude", "--config", "link.json") == 0
    assert (work / "link.json").is_symlink() and KEY in (work / "real.json").read_text()
