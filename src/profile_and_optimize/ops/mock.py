"""pao mock: the deterministic server, in the foreground."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path
from typing import Annotated, Literal, get_type_hints

from pydantic import Field, create_model

from profile_and_optimize.core.errors import BrokeMidway
from profile_and_optimize.core.opens import OUT, PATH
from profile_and_optimize.engines.mock.options import HELP, Options
from profile_and_optimize.engines.process import require_free
from profile_and_optimize.ops.acts import Act
from profile_and_optimize.ops.base import Op, Request, Result, Safety, Say
from profile_and_optimize.ops.started import by_fields

# The server's own options are the request's fields; a fixed port is the one thing that a person would expect here.
_HINTS = {
    **get_type_hints(Options), "role_chunk": Literal["none", "first", "zero"], "stamps": Annotated[Path | None, OUT],
    "answers": Annotated[Path | None, PATH],
}  # fmt: skip
_DEFAULTS = {name: Options.__dataclass_fields__[name].default for name in HELP} | {"port": 8000}
_FIELDS = {name: (_HINTS[name], Field(default=_DEFAULTS[name], description=HELP[name])) for name in HELP}
MockRequest = create_model("MockRequest", __base__=Request, **_FIELDS)  # type: ignore[call-overload]


def argv_of(req: Request) -> list[str]:
    """The server's own command line."""
    argv = [sys.executable, "-P", "-m", "profile_and_optimize.engines.mock.server"]
    for name, value in req.model_dump().items():
        flag = "--" + name.replace("_", "-")
        if isinstance(value, bool):
            argv += [flag] if value else []
        elif value is not None:
            argv += [flag, str(value)]
    return argv


def run(req: Request, say: Say) -> Result:
    port = req.model_dump()["port"]
    require_free(port)
    say(f"mock server on http://127.0.0.1:{port} (Ctrl-C stops it)")
    with subprocess.Popen(argv_of(req), stdin=subprocess.DEVNULL) as server:
        try:
            code = server.wait()
        except KeyboardInterrupt:
            server.terminate()
            code = 0
        finally:
            server.terminate()
    if code not in (0, -15):
        raise BrokeMidway(f"the mock server ended with {code}", where=f"port {port}", next="choose another --port")
    return Result({"port": port}, "mock server stopped")


OP = Op(
    "mock", "A deterministic OpenAI server: known first-token and inter-token times, faults on request.", Safety.SUBMITS_JOBS,
    MockRequest, run, mcp_name="perf_tune_report_mock", started=by_fields,
    acts=lambda _: frozenset({Act.WRITES, Act.STARTS, Act.LONG}),
    examples=("pao mock --port 8000 --ttft-ms 50 --itl-ms 10 --osl 64",),
)  # fmt: skip
