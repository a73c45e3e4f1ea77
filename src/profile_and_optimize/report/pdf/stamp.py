"""What a report.pdf says of itself in its own data, and how to read that back without drawing anything."""

from __future__ import annotations

import re
import time
import zlib
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version

from profile_and_optimize.report.pages.model import Report

# Less is no report: the fonts alone take more.
LEAST_BYTES = 10_000
_PAGE = re.compile(rb"/Type /Page\b(?!s)")
_FIELDS = {
    "Keywords": re.compile(rb"/Keywords \(((?:[^()\\])*)\)"),
    "CreationDate": re.compile(rb"/CreationDate \(((?:[^()\\])*)\)"),
    "ModDate": re.compile(rb"/ModDate \(((?:[^()\\])*)\)"),
}


def utc(at: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))


def moment(at: float) -> datetime:
    """To the second, as a PDF keeps it."""
    return datetime.fromtimestamp(int(at), UTC)


def keywords(report: Report, root: str = "") -> str:
    """`root` is the full root of the run; pages of no run have none."""
    s = report.stamp
    campaign = re.sub(r"[^A-Za-z0-9._-]", "_", s.campaign)
    marked = " SYNTHETIC" if s.synthetic else ""
    roots = f"evidence_root={s.evidence_root} root={root or 'none'}"
    return f"campaign={campaign} rendered={utc(s.rendered)} {roots} pages_sha256={report.digest}{marked}"


def expected(report: Report, root: str = "") -> dict[str, str]:
    """Keywords and dates as they stand in the file."""
    at = moment(report.stamp.rendered).strftime("D:%Y%m%d%H%M%SZ")
    return {"Keywords": keywords(report, root), "CreationDate": at, "ModDate": at}


def read_stamp(data: bytes) -> dict[str, str]:
    """The same fields of a file; one that is not there exactly once is "". Later parts of a PDF can overrule earlier ones, so
    a field that stands there twice proves nothing."""
    out = {}
    for name, pattern in _FIELDS.items():
        found = pattern.findall(data)
        out[name] = found[0].decode("ascii", "replace") if len(found) == 1 else ""
    return out


def page_count(data: bytes) -> int:
    return len(_PAGE.findall(data))


def drawn_with() -> str:
    """What a PDF's bytes depend on beside its pages: the drawing library, the one that cuts its fonts down, the packer."""
    libraries = [f"{name} {_version(name)}" for name in ("matplotlib", "fonttools", "numpy")]
    return ", ".join([*libraries, f"zlib {zlib.ZLIB_RUNTIME_VERSION}"])


def _version(name: str) -> str:
    try:
        return version(name)
    except PackageNotFoundError:
        return "none"
