"""Tokenized samples as the steps read them."""

from __future__ import annotations

import json
from pathlib import Path

from .stop import Stop

# The log-probabilities of the held-out text, two tables of float16 in one file, are cut at this size.
REFERENCE_BYTES = 512_000_000


def samples_in(path: Path) -> list[list[int]]:
    """Token ids by sample. Raises Stop when there are none."""
    if not path.exists():
        raise Stop("wrong_use", "is not there", where=str(path), next="run the step calibrate on this job first")
    rows = [json.loads(line)["input_ids"] for line in path.read_text().splitlines() if line.strip()]
    rows = [row for row in rows if row]
    if not rows:
        raise Stop("wrong_use", "holds no samples", where=str(path), next="give --calib a file with text")
    return rows


def batches_of(samples: list[list[int]], most: int) -> list[list[list[int]]]:
    """Neighbours of one length together. Nothing is padded: padding would be seen by every range."""
    out: list[list[list[int]]] = []
    for sample in samples:
        if out and len(out[-1]) < most and len(out[-1][0]) == len(sample):
            out[-1].append(sample)
        else:
            out.append([sample])
    return out


def most_at_once(samples: list[list[int]], vocabulary: int) -> int:
    """Samples of a batch whose answers fit into the bytes of the file they are kept in. What an expert is given at once, and
    with it a range taken as it runs, hangs on the batch: every reading takes the same."""
    return max(1, REFERENCE_BYTES // (4 * vocabulary * max(map(len, samples))))
