"""Results of other tools, and of our own bench, as one value per run. This is the table of what is known."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.importers import aiperf, genai_perf, guidellm, pao, sglang, vllm_bench
from profile_and_optimize.importers.base import Imported
from profile_and_optimize.importers.reading import files_under, printable, read_lines
from profile_and_optimize.importers.relatives import relative_of
from profile_and_optimize.importers.vllm_sweep import combination_of

KNOWN: Mapping[str, Any] = {
    "vllm": vllm_bench, "sglang": sglang, "genai-perf": genai_perf, "aiperf": aiperf, "guidellm": guidellm, "pao": pao,
}  # fmt: skip
SAYS = (
    "vllm bench serve (--save-result, a sweep's folder), sglang bench_serving (its .jsonl), aiperf (its artifact folder), "
    "guidellm (its json), genai-perf (profile_export_genai_perf.json), pao bench (--out)"
)
# What a known tool leaves beside its results and holds no run of its own.
BESIDE = ("failure.json", "warmup.json", aiperf.INPUTS, aiperf.RECORDS, pao.RECORDS, "raw.json")


def read(path: Path | str) -> tuple[Imported, ...]:
    """Every run that a file or folder holds, in the order of its files and lines. Raises WrongUse naming what is known."""
    path = Path(path)
    try:
        folder, there = path.is_dir(), path.exists()
    except (OSError, ValueError) as e:
        raise WrongUse(f"cannot be read: {e}", where=repr(str(path))) from None
    if folder:
        return _folder(path)
    if not there and not path.is_symlink():
        raise WrongUse("no such file or folder", where=str(path))
    found, broken = _file(path)
    if not found:
        raise WrongUse(f"no result that is known here; known are {SAYS}", where=str(path))
    return tuple(run.with_facts(_beside(broken)) for run in found)


def tool_of(data: Any) -> str | None:
    """The name of the tool that wrote an object, None for a stranger and for a relative of one that is known."""
    if relative_of(data) is not None:
        return None
    return next((name for name, module in KNOWN.items() if module.claims(data)), None)


def _folder(folder: Path) -> tuple[Imported, ...]:
    files = [f for f in files_under(folder) if f.suffix in (".json", ".jsonl")]
    found: list[Imported] = []
    unread: list[str] = []
    for file in _worth_reading(files):
        try:
            runs, broken = _file(file)
            found += runs
            unread += [f"{printable(str(file))}: {why}" for why in broken]
        except WrongUse as e:
            unread.append(printable(str(e)))
    if unread and not found:
        raise WrongUse(unread[0], next=f"known are {SAYS}")
    if not found:
        raise WrongUse(f"holds no result that is known here; known are {SAYS}", where=str(folder))
    return tuple(_with_facts(run, files, unread) for run in found)


def _worth_reading(files: list[Path]) -> list[Path]:
    """Without what only accompanies results: a sweep's summary repeats the runs that lie beside it."""
    runs = {f.parent for f in files if f.name.startswith("run=")}
    return [f for f in files if not f.name.endswith(BESIDE) and not (f.name == "summary.json" and f.parent in runs)]


def _with_facts(run: Imported, files: list[Path], unread: list[str]) -> Imported:
    """What lies beside a run and did not become one: runs of a sweep that died, files that could not be read."""
    here = Path(run.path.split("#")[0]).parent
    extra = vllm_bench.failure_of([f.name for f in files if f.parent == here])
    extra |= _beside(unread)
    if serve := combination_of(here.name).serve:
        extra["served_as"] = serve
    return run.with_facts(extra) if extra else run


def _beside(unread: list[str]) -> dict[str, str]:
    return {"unreadable_beside": "; ".join(unread)[:400]} if unread else {}


def _file(path: Path) -> tuple[tuple[Imported, ...], list[str]]:
    """(runs of one file, lines of it that broke off): a document, a list of runs (a sweep's summary), or one a line.

    Raises WrongUse for a file without a run, by the name of what it is where that is known.
    """
    values, broken = read_lines(path)
    if len(values) == 1 and isinstance(values[0], list):
        values = values[0]
    known = [v for v in values if tool_of(v) is not None]
    strangers = list(dict.fromkeys(name for v in values if (name := relative_of(v)) is not None))
    if not known and (strangers or broken):
        why = f"a result of {strangers[0]}: not read here" if strangers else broken[0]
        raise WrongUse(why, where=str(path), next=f"known are {SAYS}")
    try:
        runs = tuple(run for i, v in enumerate(known) for run in _runs(v, path, i, len(known)))
    except ValueError as e:  # a value type refused what its importer let through
        raise WrongUse(str(e), where=str(path)) from None
    return runs, broken + [f"a result of {name}: not read here" for name in strangers]


def _runs(value: Any, path: Path, index: int, of: int) -> tuple[Imported, ...]:
    name = printable(str(path)) + ("" if of == 1 else f"#{index + 1}")
    tool = tool_of(value)
    if tool == guidellm.TOOL:
        return guidellm.of(value, name)
    if tool in (aiperf.TOOL, pao.TOOL):
        return (KNOWN[tool].of(value, name, path.parent),)
    return (KNOWN[str(tool)].of(value, name),)
