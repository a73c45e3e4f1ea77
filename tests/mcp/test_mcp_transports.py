"""The same server over stdio and over HTTP: who may speak to it, and what is left when it goes."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import anyio
import httpx
import pytest
from mcp.client.stdio import StdioServerParameters, stdio_client
from mcp.client.streamable_http import streamable_http_client
from mcp_help import gone, in_time, policy_file

from mcp import Client
from profile_and_optimize.cli.main import run as pao
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.engines.process import free_port
from profile_and_optimize.engines.reaper import descendants
from profile_and_optimize.mcp import EXECUTABLE, schema
from profile_and_optimize.mcp.gate import Gate, chosen_token
from profile_and_optimize.ops.base import all_ops

PROGRAM = str(Path(sys.executable).with_name(EXECUTABLE))
TOKEN = "a-token-of-the-test-4711"


def tool(verb: str) -> str:
    return schema.tool_name(all_ops()[verb])


# stdio


@pytest.mark.parametrize("mode", ["auto", pytest.param("legacy", marks=pytest.mark.slow)])
def test_over_stdio_tools_are_listed_and_called_and_nothing_is_left(work: Path, synthetic: Path, mode: str) -> None:
    async def main() -> tuple[list[str], Any]:
        server = StdioServerParameters(command=PROGRAM, args=[], cwd=str(work), env=dict(os.environ))
        async with Client(stdio_client(server), mode=mode) as client:
            names = [t.name for t in (await client.list_tools()).tools]
            return names, await client.call_tool(tool("verify"), {"campaign": "synthetic"})

    before = set(descendants(os.getpid()))
    names, found = in_time(main)
    assert names == list(schema.tool_ops()) and found.structured_content["ok"]
    assert gone(set(descendants(os.getpid())) - before)


@pytest.mark.parametrize(
    "how",
    [
        "cancel",
        pytest.param("close", marks=pytest.mark.slow),
        pytest.param("SIGTERM", marks=pytest.mark.slow),
        "SIGKILL",
    ],
)
def test_over_stdio_whatever_ends_a_call_ends_its_processes(work: Path, how: str) -> None:
    mine: set[int] = set(descendants(os.getpid()))
    seen: set[int] = set()
    allows = ["--policy", str(policy_file(work, "allow: [mock]"))]

    async def main() -> None:
        server = StdioServerParameters(command=PROGRAM, args=allows, cwd=str(work), env=dict(os.environ))
        with anyio.CancelScope() as scope:
            async with Client(stdio_client(server)) as client, anyio.create_task_group() as group:

                async def heard(done: float, total: float | None, message: str | None) -> None:
                    found = set(descendants(os.getpid())) - mine
                    seen.update(found)
                    if how.startswith("SIG"):
                        (pid,) = [p for p in found if EXECUTABLE in Path(f"/proc/{p}/cmdline").read_text()]
                        os.kill(pid, getattr(signal, how))
                    (group.cancel_scope if how == "cancel" else scope).cancel()

                await client.call_tool(tool("mock"), {"port": 0}, progress_callback=heard)

    try:
        in_time(main)
    except* Exception:  # the connection of a server that was killed
        assert how.startswith("SIG")
    assert len(seen) >= 3 and gone(seen)


def test_a_server_with_a_policy_that_an_agent_could_write_does_not_start(work: Path) -> None:
    path = policy_file(work, "")
    path.chmod(0o666)
    done = subprocess.run(
        [PROGRAM, "--policy", str(path)], stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60
    )
    assert done.returncode == 2 and "others may write it" in done.stderr and not done.stdout


def test_the_command_lines_own_start_imports_nothing_of_the_protocol() -> None:
    code = (
        "import sys; from profile_and_optimize.cli.command import command_of; from profile_and_optimize.ops.base import "
        "all_ops; [command_of(op) for op in all_ops().values()]; print(*sys.modules)"
    )
    done = subprocess.run([sys.executable, "-P", "-c", code], capture_output=True, text=True, timeout=60, check=True)
    there = {name.split(".")[0] for name in done.stdout.split()}
    assert "click" in there and not there & {
        "mcp",
        "mcp_types",
        "starlette",
        "uvicorn",
        "opentelemetry",
        "cryptography",
    }


# HTTP


@pytest.fixture(scope="module")
def port(tmp_path_factory: pytest.TempPathFactory, closed_run: Path) -> Iterator[int]:
    """Of one server on loopback that takes TOKEN; a published run lies in its workspace."""
    folder, chosen = tmp_path_factory.mktemp("http"), free_port()
    shutil.copytree(closed_run, folder / "work" / "campaigns" / closed_run.name)
    env = {**os.environ, "PAO_MCP_TOKEN": TOKEN, "XDG_CONFIG_HOME": str(folder), "XDG_CACHE_HOME": str(folder)}
    argv = [PROGRAM, "--http", "--port", str(chosen), "--policy", str(policy_file(folder / "work", "allow: [mock]"))]
    server = subprocess.Popen(
        argv, cwd=folder / "work", env=env, stdin=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True
    )
    try:
        until = time.monotonic() + 60
        while time.monotonic() < until:
            assert server.poll() is None, server.communicate()[1]
            try:
                httpx.get(f"http://127.0.0.1:{chosen}/mcp", timeout=5, trust_env=False)
                break
            except httpx.ConnectError:
                time.sleep(0.05)
        yield chosen
    finally:
        server.terminate()
        _, said = server.communicate(timeout=60)
        assert TOKEN not in said


def authorised(token: str = TOKEN) -> Any:
    import httpx2

    return httpx2.AsyncClient(headers={"Authorization": f"Bearer {token}"}, trust_env=False, timeout=60)


@pytest.mark.parametrize("mode", ["auto", "legacy"])
def test_over_http_tools_are_listed_and_called(port: int, mode: str) -> None:
    async def main() -> tuple[list[str], Any]:
        async with authorised() as http:
            transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
            async with Client(transport, mode=mode) as client:
                names = [t.name for t in (await client.list_tools()).tools]
                return names, await client.call_tool(tool("verify"), {"campaign": "synthetic"})

    names, found = in_time(main)
    assert names == list(schema.tool_ops()) and found.structured_content["ok"]


GOOD = {
    "Authorization": f"Bearer {TOKEN}",
    "Content-Type": "application/json",
    "Accept": "application/json, text/event-stream",
}
BODY = {"jsonrpc": "2.0", "id": 1, "method": "tools/list", "params": {}}


STRANGERS: list[tuple[dict[str, str], int]] = [
    ({"Authorization": ""}, 401), ({"Authorization": "Bearer wrong"}, 401), ({"Authorization": f"bearer {TOKEN}x"}, 401),
    ({"Authorization": f"Basic {TOKEN}"}, 401), ({"Origin": "https://evil.example"}, 403), ({"Origin": "null"}, 403),
    ({"Origin": "http://127.0.0.1.evil.example"}, 403), ({"Host": "evil.example"}, 421), ({"Host": "127.0.0.1"}, 421),
]  # fmt: skip


def test_over_http_strangers_are_refused(port: int) -> None:
    def send(**headers: str) -> httpx.Response:
        url = f"http://127.0.0.1:{port}/mcp"
        return httpx.post(url, json=BODY, headers={**GOOD, **headers}, timeout=30, trust_env=False)

    for headers, status in STRANGERS:
        sent = send(**headers)
        assert sent.status_code == status and "perf_tune" not in sent.text, headers
    assert send(Origin=f"http://127.0.0.1:{port}").status_code not in (401, 403, 421)


def test_over_http_it_listens_on_loopback_alone(port: int) -> None:
    rows = [line.split() for name in ("tcp", "tcp6") for line in Path(f"/proc/net/{name}").read_text().splitlines()[1:]]
    assert {row[1] for row in rows if row[3] == "0A" and row[1].endswith(f":{port:04X}")} == {f"0100007F:{port:04X}"}


def test_over_http_a_call_that_its_client_leaves_is_stopped(port: int) -> None:
    mine = set(descendants(os.getpid()))
    seen: set[int] = set()
    environments: list[str] = []

    async def main() -> None:
        async with authorised() as http:
            transport = streamable_http_client(f"http://127.0.0.1:{port}/mcp", http_client=http)
            async with Client(transport) as client, anyio.create_task_group() as group:

                async def heard(done: float, total: float | None, message: str | None) -> None:
                    seen.update(set(descendants(os.getpid())) - mine)
                    environments.extend(Path(f"/proc/{pid}/environ").read_text() for pid in seen)
                    group.cancel_scope.cancel()

                await client.call_tool(tool("mock"), {"port": 0}, progress_callback=heard)

    in_time(main)
    assert len(seen) >= 2 and gone(seen)
    assert environments and not any(TOKEN in environment for environment in environments)


def test_a_token_is_long_enough_or_made_and_kept_private(tmp_path: Path) -> None:
    assert chosen_token(TOKEN, None) == (TOKEN, False)
    for weak in ("", "short", "with spaces in it, many", "x" * 20 + "\n"):
        with pytest.raises(WrongUse):
            chosen_token(weak, None)
    made, here = chosen_token(None, tmp_path / "token")
    assert here and len(made) > 40 and (tmp_path / "token").read_text().strip() == made
    assert (tmp_path / "token").stat().st_mode & 0o777 == 0o600
    with pytest.raises(WrongUse):
        chosen_token(None, tmp_path / "token")


def test_headers_given_twice_pass_nowhere() -> None:
    gate = Gate(None, 80, TOKEN)  # type: ignore[arg-type]
    good = [(b"host", b"localhost:80"), (b"authorization", b"Bearer " + TOKEN.encode())]
    assert gate.refusal({"headers": good}) is None
    for extra, status in (((b"Host", b"evil"), 421), ((b"Authorization", b"x"), 401)):
        assert gate.refusal({"headers": [*good, extra]})[0] == status  # type: ignore[index]
    assert gate.refusal({"headers": [*good, (b"origin", b"http://localhost:80")]}) is None
    for origin in (b"https://localhost:80", b"http://localhost", b"null", b""):
        assert gate.refusal({"headers": [*good, (b"origin", origin)]})[0] == 403, origin  # type: ignore[index]
    assert gate.refusal({"headers": []})[0] == 421  # type: ignore[index]


def test_a_token_file_that_a_tool_could_read_is_refused(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["mcp", "serve", "--http", "--token-file", "token"]) == 2
    assert "tools could read it" in capsys.readouterr().err and not (work / "token").exists()


def test_the_owner_sees_what_the_policy_decides(work: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert pao(["mcp", "tools", "--json", "--policy", str(policy_file(work, "deny: [submits_jobs]"))]) == 0
    rows = {r["verb"]: r for r in json.loads(capsys.readouterr().out)["result"]["tools"]}
    assert (
        set(rows) == set(all_ops()) and rows["campaign_run"]["policy"] == "deny" and rows["verify"]["policy"] == "allow"
    )
