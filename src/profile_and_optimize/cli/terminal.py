"""What reaches a terminal: control sequences of servers, logs and model names are stripped."""

from __future__ import annotations

import re
import sys
import time

_ESCAPES = re.compile(r"\x1b(?:\[[0-?]*[ -/]*[@-~]|\][^\x07\x1b]*(?:\x07|\x1b\\)?|[@-_])|[\x00-\x08\x0b-\x1f\x7f-\x9f]")


def clean(text: str) -> str:
    return _ESCAPES.sub("", text)


def say(text: str) -> None:
    """One line of progress on stderr, with the time of day."""
    print(f"{time.strftime('%H:%M:%S')} {clean(text)}", file=sys.stderr, flush=True)
