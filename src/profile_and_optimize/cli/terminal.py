"""What reaches a terminal: control sequences of servers, logs and model names are stripped, credentials are hidden."""

from __future__ import annotations

import os
import re
import sys
import time
import unicodedata

# CSI; OSC, DCS and the other strings with all they hold; what is left of an escape.
_SEQUENCES = re.compile(
    r"(?:\x1b\[|\x9b)[0-?]*[ -/]*[@-~]|(?:\x1b[\]PX^_]|[\x90\x98\x9d-\x9f])[^\x07\x1b\x9c]*(?:\x07|\x1b\\|\x9c)?|\x1b[ -/]*[0-~]"
)
# Control and format characters (bidi overrides among them), half surrogates, line and paragraph separators.
_HIDDEN = frozenset({"Cc", "Cf", "Cs", "Zl", "Zp"})


def clean(text: str) -> str:
    """`text` as plain lines: nothing that moves the cursor, links, recolours or reorders."""
    bare = _SEQUENCES.sub("", text)
    return "".join(c for c in bare if c in "\n\t" or unicodedata.category(c) not in _HIDDEN)


def hidden(text: str) -> str:
    """`text` without credentials: what a terminal shows ends up in logs."""
    # Imported here: `--version`, `--help` and a Tab hide nothing, and its patterns take a while to compile.
    from profile_and_optimize.evidence.redact import known_secrets, redact

    return redact(text, known_secrets(os.environ))


def say(text: str) -> None:
    """One line of progress on stderr, with the time of day."""
    line = " ".join(clean(hidden(text)).splitlines())
    print(f"{time.strftime('%H:%M:%S')} {line}", file=sys.stderr, flush=True)
