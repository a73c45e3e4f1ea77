"""One op in a process of its own: `python -P -m profile_and_optimize.mcp.job FOLDER`.

FOLDER holds `request.json` and receives `pid`, `progress.jsonl` (a line per `say`) and `result.json`. The request goes to
the op as values, never through a command line, so no text in it can become an option.
"""

from __future__ import annotations

import json
import os
import signal
import sys
import traceback
from importlib import import_module
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import BrokeMidway, PaoError
from profile_and_optimize.evidence.bound import holding, require_unchanged
from profile_and_optimize.ops import MODULES
from profile_and_optimize.ops.base import Op, Result, envelope, parse_request

REQUEST, PID, PROGRESS, RESULT = "request.json", "pid", "progress.jsonl", "result.json"


def module_of(verb: str) -> str:
    """The file of `ops/` that holds a verb."""
    return next(name for name in MODULES if _op(name).verb == verb)


def _op(module: str) -> Op:
    found: Op = import_module(f"profile_and_optimize.ops.{module}").OP
    return found


def main(argv: list[str]) -> int:
    # As the command line does: a polite kill unwinds like Ctrl-C, so that servers are stopped on the way out.
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    folder = Path(argv[1])
    (folder / PID).write_text(str(os.getpid()))
    asked = json.loads((folder / REQUEST).read_text())
    os.chdir(asked["workspace"])
    try:
        found, text = _run(asked, folder)
    except KeyboardInterrupt:
        return 130
    partial = folder / (RESULT + ".part")
    partial.write_text(json.dumps({"envelope": found, "text": text}))
    partial.rename(folder / RESULT)
    return 0


def _run(asked: dict[str, Any], folder: Path) -> tuple[dict[str, Any], str]:
    """The envelope and the text for a person, on failure too."""
    verb = asked["verb"]
    with open(folder / PROGRESS, "a", buffering=1) as progress:
        try:
            if asked["module"] not in MODULES:
                raise BrokeMidway("no such file of ops", where=asked["module"])
            op = _op(asked["module"])
            with holding(asked["files"]):
                require_unchanged(asked["files"])
                result: Result = op.run(
                    parse_request(op, asked["values"]), lambda line: print(json.dumps(line), file=progress)
                )
            return envelope(verb, result, None), result.text
        except PaoError as e:
            return envelope(verb, None, e), ""
        except Exception as e:
            print(traceback.format_exc(), file=sys.stderr)
            error = BrokeMidway(f"{type(e).__name__}: {e}", next="report this with the server's log")
            return envelope(verb, None, error), ""


if __name__ == "__main__":
    sys.exit(main(sys.argv))
