"""What every verb that closes a run says last: its root, which whoever wants to check the run later has to keep."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

from profile_and_optimize.evidence.folder import read_json
from profile_and_optimize.evidence.manifest import MANIFEST, root_file
from profile_and_optimize.ops.base import Result


def root_in(run: Path) -> str:
    """The full root in the manifest of a closed run."""
    return str(read_json(run / MANIFEST)["root"])


def closed(result: Result, run: Path) -> Result:
    """The same answer with the run's full root as its last line, and where it was written beside the run."""
    root = root_in(run)
    text = f"{result.text.rstrip()}\nroot {root}"
    return replace(result, data={**result.data, "root": root, "root_file": str(root_file(run))}, text=text)
