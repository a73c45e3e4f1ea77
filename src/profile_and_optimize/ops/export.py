"""pao export: a run for other programs: tables for notebooks, Markdown for a pull request, JUnit XML for CI."""

from __future__ import annotations

import csv
import io
from collections.abc import Iterable
from operator import attrgetter
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_type_hints

from pydantic import Field

from profile_and_optimize.analysis.decide import Decision
from profile_and_optimize.analysis.tables import TABLES, Row, columns, rows
from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.opens import OUT
from profile_and_optimize.evidence.atomic import write_atomic
from profile_and_optimize.ops.acts import Acts, reads, writes
from profile_and_optimize.ops.base import Op, Result, Safety, Say
from profile_and_optimize.ops.campaigns import CampaignRequest, intact
from profile_and_optimize.ops.closing import root_in
from profile_and_optimize.ops.options import says
from profile_and_optimize.report.junit import junit
from profile_and_optimize.report.pull_request import pull_request
from profile_and_optimize.report.view import view

# What makes a spreadsheet take a text for a formula.
FORMULA = ("=", "+", "-", "@", "\t", "\r")


class ExportRequest(CampaignRequest):
    format: Literal["csv", "parquet", "md", "junit"] = Field(
        default="csv",
        description=says("format", "csv, parquet: one table; md: answer and tables for a pull request; junit: for CI"),
    )
    table: Literal["requests", "trials", "effects"] = Field(
        default="requests", description="the table of csv and parquet: a row for each request, trial or variant"
    )
    fail_if: Literal["worse", "not-better", "unknown"] = Field(default="worse", description=says("fail_if", "of junit"))
    out: Annotated[str | None, OUT] = Field(default=None, description=says("out", "a file; default: print it"))


def acts(req: ExportRequest) -> Acts:
    return writes(req) if req.out else reads(req)


def run(req: ExportRequest, say: Say) -> Result:
    path = req.path()
    if req.format == "parquet" and req.out is None:
        raise WrongUse(
            "parquet is binary and is not printed", where="--format parquet", next="add --out requests.parquet"
        )
    if req.out is not None and Path(req.out).resolve().is_relative_to(path.resolve()):
        raise WrongUse(
            "a run holds no other files than its own", where=f"--out {req.out}", next="a place outside the run"
        )
    made = made_of(req, *intact(path))
    data: dict[str, Any] = {"campaign": path.name, "format": req.format, "out": req.out, "bytes": len(made)}
    if req.format in ("csv", "parquet"):
        data |= {"table": req.table, "columns": list(columns(req.table))}
    if req.out is None:
        text = made.decode()
        return Result({**data, "text": text}, text.rstrip("\n"))
    write_atomic(Path(req.out), made)
    return Result(data, f"wrote {req.out} ({len(made)} bytes)")


def made_of(req: ExportRequest, ev: Evidence, d: Decision) -> bytes:
    if req.format == "csv":
        return csv_bytes(req.table, rows(req.table, ev, d))
    if req.format == "parquet":
        return parquet_bytes(req.table, rows(req.table, ev, d))
    shown = view(ev, d)
    return junit(shown, req.fail_if) if req.format == "junit" else pull_request(shown, root_in(ev.run)).encode()


def csv_bytes(table: str, given: Iterable[Row]) -> bytes:
    """UTF-8 with a line of names first. None is an empty field; a text that a spreadsheet would run as a formula has ' before it."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(columns(table))
    get = attrgetter(*columns(table))
    writer.writerows([_cell(v) for v in get(row)] for row in given)
    return out.getvalue().encode()


def _cell(value: Any) -> Any:
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def parquet_bytes(table: str, given: Iterable[Row]) -> bytes:
    """One column for each field, typed as the field is. Raises WrongUse without pyarrow."""
    try:
        import pyarrow as pa
        import pyarrow.parquet as pq
    except ImportError as e:
        raise WrongUse(
            "parquet needs pyarrow, which is not installed", where="--format parquet",
            next="pip install 'profile-and-optimize[export]', or --format csv",
        ) from e  # fmt: skip
    kinds = {str: pa.string(), int: pa.int64(), float: pa.float64(), bool: pa.bool_()}
    hints = get_type_hints(TABLES[table])
    schema = pa.schema(
        [(n, kinds[next(t for t in (*get_args(hints[n]), hints[n]) if t in kinds)]) for n in columns(table)]
    )
    names = columns(table)
    found = list(zip(*map(attrgetter(*names), given), strict=True)) or [()] * len(names)
    sink = pa.BufferOutputStream()
    pq.write_table(pa.table(dict(zip(names, map(list, found), strict=True)), schema=schema), sink)
    return bytes(sink.getvalue())


OP = Op(
    "export", "Export a run: requests, trials or effects as CSV or Parquet, Markdown for a pull request, JUnit XML for CI.",
    Safety.WRITES_ARTIFACTS, ExportRequest, run, positional=("campaign",), mcp_name="perf_tune_report_export", acts=acts,
    examples=(
        "pao export my-campaign --format csv --out requests.csv", "pao export my-campaign --format csv --table effects",
        "pao export my-campaign --format md", "pao export my-campaign --format junit --out junit.xml",
    ),
)  # fmt: skip
