"""pao mcp serve | tools | install. What needs the protocol's library is imported when it is used."""

from __future__ import annotations

import json
import os
import signal
import sys
from importlib import import_module
from pathlib import Path

import click

from profile_and_optimize.core.errors import PaoError, WrongUse
from profile_and_optimize.mcp import EXECUTABLE, KEY
from profile_and_optimize.ops.base import Result, envelope

PORT = 8765
_WORKSPACE = click.option("--workspace", help="the folder that tools work in; default: the current one")
_POLICY = click.option(
    "--policy", help="the owner's policy; default: ~/.config/profile-and-optimize/mcp-policy.yaml if it is there"
)


@click.group(help="The ops as tools for agents: an MCP server, and its entry in a client's configuration.")
def group() -> None:
    pass


@group.command(
    help="Serve over stdio, or with --http over HTTP on loopback. docs/mcp.md describes what is asked and what is refused."
)
@click.option("--http", is_flag=True, help="streamable HTTP on 127.0.0.1, at /mcp, with a bearer token")
@click.option("--port", type=click.IntRange(1, 65535), default=PORT, show_default=True, help="with --http")
@click.option(
    "--token-file", help="with --http: where a made token goes (mode 0600) instead of stderr; PAO_MCP_TOKEN gives one"
)
@_WORKSPACE
@_POLICY
def serve(http: bool, port: int, token_file: str | None, workspace: str | None, policy: str | None) -> None:
    server = import_module("profile_and_optimize.mcp.server")
    loaded = _policy(policy, workspace)
    if not http:
        server.serve_stdio(loaded)
        return
    gate = import_module("profile_and_optimize.mcp.gate")
    if token_file and loaded.holds(Path(token_file)):
        raise WrongUse(
            "tools could read it there",
            where=f"--token-file {token_file}",
            next="name a place outside of the workspace",
        )
    token, made = gate.chosen_token(os.environ.get("PAO_MCP_TOKEN"), Path(token_file) if token_file else None)
    where = "PAO_MCP_TOKEN" if not made else token_file or token
    print(
        f"http://127.0.0.1:{port}/mcp with the bearer token {'in ' if not made or token_file else ''}{where}",
        file=sys.stderr,
        flush=True,
    )
    server.serve_http(loaded, port, token)


@group.command(help="The tools, and what the policy decides about each.")
@click.option("--json", "as_json", is_flag=True, help="print the one JSON envelope")
@_WORKSPACE
@_POLICY
def tools(as_json: bool, workspace: str | None, policy: str | None) -> None:
    schema = import_module("profile_and_optimize.mcp.schema")
    loaded = _policy(policy, workspace)
    rows = [
        {"tool": name, "verb": op.verb, "safety": op.safety.value, "policy": loaded.decides(op, op.safety)}
        for name, op in schema.tool_ops().items()
    ]
    data = {"server": KEY, "workspace": str(loaded.workspace), "policy": loaded.source or None, "tools": rows}
    lines = [f"{r['tool']:36} {r['safety']:18} {r['policy']}" for r in rows]
    print(json.dumps(envelope("mcp", Result(data, ""), None), indent=1) if as_json else "\n".join(lines))


@group.command(help="Enter the server into a client's configuration, keeping what is there.")
@click.option("--client", type=click.Choice(["claude", "codex", "cursor"]), required=True)
@click.option("--dry-run", is_flag=True, help="show the change and make none")
@click.option("--config", help="the file; default: .mcp.json, ~/.codex/config.toml or .cursor/mcp.json")
@_WORKSPACE
@_POLICY
def install(client: str, dry_run: bool, config: str | None, workspace: str | None, policy: str | None) -> None:
    entering = import_module("profile_and_optimize.mcp.install")
    change = entering.planned(client, config, entering.entry(workspace, policy))
    if change.before == change.after:
        print(f"{change.path}: it is there already")
        return
    if dry_run:
        print(change.diff, end="")
        return
    entering.write(change)
    print(f"{change.path}: {KEY} entered; start the client again")


def _policy(given: str | None, workspace: str | None):  # type: ignore[no-untyped-def]
    server_folder = Path(workspace).expanduser() if workspace else Path.cwd()
    if not server_folder.is_dir():
        raise WrongUse("no such folder", where=f"--workspace {server_folder}", next="make it, or name another")
    return import_module("profile_and_optimize.mcp.policy").load_policy(given, server_folder)


def main() -> None:
    """The program of that name: `pao mcp serve` without the words before its options."""
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        serve.main(prog_name=EXECUTABLE, standalone_mode=False)
    except (KeyboardInterrupt, click.Abort):
        sys.exit(130)
    except click.exceptions.Exit as e:
        sys.exit(e.exit_code)
    except click.ClickException as e:
        e.show()
        sys.exit(2)
    except PaoError as e:
        print(f"error: {e}", file=sys.stderr)
        sys.exit(e.exit_code)
