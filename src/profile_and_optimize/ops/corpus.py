"""Where calibration text comes from: a file, a public data set by its name, or the text that is always here."""

from __future__ import annotations

import json
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from pathlib import Path

from profile_and_optimize.core.errors import BrokeMidway, Unreachable, WrongUse
from profile_and_optimize.core.names import not_an_option
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops.base import Say
from profile_and_optimize.quant.job import Calibration
from profile_and_optimize.workloads import hub
from profile_and_optimize.workloads.data import DataSet
from profile_and_optimize.workloads.recorded import digest_file

BUILTIN = "builtin"


@dataclass(frozen=True, slots=True)
class Corpus:
    """`source` is its name, `file` where it lies; None for the built-in one."""

    source: str
    file: Path | None
    sha256: str | None

    def calibration(self, samples: int, seq_len: int, chat: bool) -> Calibration:
        return Calibration(
            self.source, None if self.file is None else str(self.file), self.sha256, samples, seq_len, chat
        )


@cache
def public() -> Mapping[str, DataSet]:
    """Data sets that are known by name."""
    text = (resources.files("profile_and_optimize.quant") / "corpora.toml").read_text(encoding="utf-8")
    return {name: DataSet(name, **fields) for name, fields in sorted(tomllib.loads(text).items())}


def corpus_of(given: str | None, say: Say) -> Corpus:
    """What --calib names; a data set that is not here yet is fetched.

    Raises WrongUse for a name that is neither, Unreachable for a data set that cannot be had, with what to do instead.
    """
    if given is None or given == BUILTIN:
        return Corpus(BUILTIN, None, None)
    path = Path(not_an_option(given, "--calib"))
    if path.is_file():
        return Corpus(path.name, path.absolute(), digest_file(path))
    if given not in public():
        raise WrongUse(
            f"neither a file nor a data set known by name: there are {BUILTIN}, {', '.join(public())}", where=f"--calib {given}",
            next='give a .jsonl file whose lines are {"text": "..."}',
        )  # fmt: skip
    kept = _fetched(public()[given], say)
    return Corpus(given, kept, digest_file(kept))


def _fetched(wanted: DataSet, say: Say) -> Path:
    if wanted.kept.exists():
        return wanted.kept
    say(f"fetching {wanted.file} of {wanted.repo}")
    try:
        found = hub.fetch(wanted.url, wanted.kept, wanted.most_bytes, say)
    except (Unreachable, BrokeMidway) as e:
        raise Unreachable(
            f"the data set {wanted.name} cannot be fetched: {e.message}", where=e.where or wanted.url,
            next="give a file instead (--calib FILE.jsonl), or leave --calib out for the text that is always here",
        ) from e  # fmt: skip
    record = wanted.kept.with_name(wanted.kept.name + ".fetched.json")
    write_atomic(record, (json.dumps(found.to_json(), indent=1, sort_keys=True) + "\n").encode())
    return wanted.kept


def is_fetched(given: str | None) -> bool:
    """Would `corpus_of` download what --calib names?"""
    known = public().get(given or "")
    return known is not None and not Path(given or "").is_file() and not known.kept.exists()


def warnings_of(corpus: Corpus, chat: bool) -> tuple[str, ...]:
    """What a person should know of this text."""
    said = []
    if corpus.file is None:
        said.append(
            "calibrated on the text of Python's standard library, which is always here: ranges follow it, so give text like "
            "what the model will see (--calib)"
        )
    if chat:
        said.append(
            "--chat puts the template's control tokens into every sample: they all go to the same experts and skew their "
            "ranges; compare with a run of plain text"
        )
    return tuple(said)
