"""The server: every op as a tool, over stdio or over HTTP on loopback."""

from __future__ import annotations

import contextlib
import os

import anyio
from mcp.server.mcpserver import MCPServer

from profile_and_optimize import __version__
from profile_and_optimize.engines.process import require_free
from profile_and_optimize.mcp import KEY
from profile_and_optimize.mcp.policy import Policy
from profile_and_optimize.mcp.schema import NOTICE, tool_ops
from profile_and_optimize.mcp.tools import office_of, op_tool

INSTRUCTIONS = (
    "Measures and tunes how language models are served. Paths are relative to the workspace. Long calls report progress, and "
    "cancelling one stops all that it started; its run can be resumed. Calls that start servers, run code or can take more than a "
    "minute ask the user first. " + NOTICE
)
GRACE_S = 45


def build(policy: Policy) -> MCPServer[None]:
    """A server with a tool for every op. Nothing is started."""
    office = office_of(policy)
    tools = [op_tool(op, office) for op in tool_ops().values()]
    return MCPServer(KEY, version=__version__, instructions=INSTRUCTIONS, tools=list(tools), log_level="WARNING")


def serve_stdio(policy: Policy) -> None:
    os.chdir(policy.workspace)
    anyio.run(build(policy).run_stdio_async)


def serve_http(policy: Policy, port: int, token: str) -> None:
    """On 127.0.0.1 alone, for whoever shows the token. Raises WrongUse when the port is taken."""
    import uvicorn
    from mcp.server.transport_security import TransportSecuritySettings

    from profile_and_optimize.mcp.gate import Gate, hosts, origins

    require_free(port)
    os.chdir(policy.workspace)
    security = TransportSecuritySettings(allowed_hosts=hosts(port), allowed_origins=origins(port))
    app = build(policy).streamable_http_app(transport_security=security)
    config = uvicorn.Config(
        Gate(app, port, token),
        host="127.0.0.1",
        port=port,
        log_level="warning",
        timeout_graceful_shutdown=GRACE_S,
        server_header=False,
    )
    with contextlib.suppress(KeyboardInterrupt):
        uvicorn.Server(config).run()
