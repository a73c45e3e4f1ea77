"""Do two derived files say the same? To the last digits where the same program made both; in what they mean where another
version of it made one of them."""

from __future__ import annotations

import math
import re
from collections.abc import Iterator
from typing import Any

from profile_and_optimize.evidence.reading import strict_json

_DATA = re.compile(rb'<script type="application/json" id="data">(.*?)</script>', re.S)
# Sentences, whose wording may change from version to version. Whatever they tell stands as a value beside them.
PROSE = frozenset({"reason", "why", "next", "todo", "failure", "coverage", "omitted", "omitted_pages", "missing"})
# Values that no version may leave away from a document that a decision is read from.
MUST = {
    "verdict.json": ("tier", "pick", "baseline", "missing"),
    "champion_select.json": ("tier", "pick", "baseline", "arms", "gates"),
    "report_status.json": ("status", "verdict_tier"),
    "known_good_config.json": ("pick", "tier", "effect", "flags"),
    "serve.manifest.json": ("pick", "tier", "argv", "env"),
}  # fmt: skip
# Members of a list are known by the first of these that they have.
NAMES = ("name", "cell", "id", "path", "arm")


def same_to_nine_digits(rel: str, one: bytes, two: bytes) -> bool:
    """Are these the same but for the last digits of numbers in their JSON? Another processor or mathematics library rounds
    those differently; whoever changed them further would have changed a result."""
    try:
        (values, rest), (others, remaining) = _json_in(rel, one), _json_in(rel, two)
        return rest == remaining and close(values, others)
    except ValueError:
        return False


def differing(rel: str, there: bytes, ours: bytes) -> tuple[list[str], list[str]]:
    """(values that contradict each other, places that only one of the two has) of a file that another version made. Pages have
    their numbers inside as data; what else they say is not looked at here. Raises ValueError for what is no JSON."""
    (values, _), (others, _) = _json_in(rel, there), _json_in(rel, ours)
    must = MUST.get(rel.rsplit("/", 1)[-1], ())
    if len(values) != len(others):
        return [f"{len(values)} rows, the records give {len(others)}"], []
    wrong: list[str] = []
    alone: list[str] = []
    for a, b in zip(values, others, strict=True):
        wrong += [f"{k} is missing" for k in must if isinstance(a, dict) and k not in a]
        for kind, text in _differ(a, b, ""):
            (wrong if kind == "value" else alone).append(text)
    return wrong, alone


def _differ(a: Any, b: Any, at: str) -> Iterator[tuple[str, str]]:
    """("value", words) for a contradiction, ("alone", place) for what one of the two lacks. `a` is what is there."""
    if isinstance(a, dict) and isinstance(b, dict):
        for k in sorted(a.keys() | b.keys()):
            place = f"{at}.{k}".lstrip(".")
            if k in PROSE and _prose(a.get(k)) and _prose(b.get(k)):
                if a.get(k) != b.get(k):
                    yield "alone", f"wording of {place}"
            elif k in a and k in b:
                yield from _differ(a[k], b[k], place)
            else:
                yield "alone", place
    elif isinstance(a, list) and isinstance(b, list):
        yield from _lists(a, b, at)
    elif not close(a, b):
        yield "value", f"{at or 'it'} is {_short(a)}, the records give {_short(b)}"


def _lists(a: list[Any], b: list[Any], at: str) -> Iterator[tuple[str, str]]:
    named = _by_name(a), _by_name(b)
    if named[0] is not None and named[1] is not None:
        yield from _differ(named[0], named[1], at)
    elif len(a) != len(b):
        yield "value", f"{at} has {len(a)} members, the records give {len(b)}"
    else:
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            yield from _differ(x, y, f"{at}[{i}]")


def _by_name(members: list[Any]) -> dict[str, Any] | None:
    """Members by their names; None where they have none, or share one."""
    if not members:
        return {}
    for key in NAMES:
        if all(isinstance(m, dict) and isinstance(m.get(key), str) for m in members):
            found = {m[key]: m for m in members}
            return found if len(found) == len(members) else None
    return None


def _prose(value: Any) -> bool:
    """Sentences: a text, a list of texts, or of a page left out with its reason. A gate is none: it has a state."""
    if isinstance(value, list):
        return all(isinstance(v, str) or (isinstance(v, dict) and v.keys() <= {"page", "reason", "how"}) for v in value)
    return value is None or isinstance(value, str)


def _short(value: Any) -> str:
    return repr(value)[:80]


def _json_in(rel: str, data: bytes) -> tuple[list[Any], bytes]:
    """The JSON values of a file, and what stands around them: a page holds its numbers once more as data."""
    if rel.endswith(".jsonl"):
        return [strict_json(line) for line in data.splitlines()], b""
    if rel.endswith(".json"):
        return [strict_json(data)], b""
    inlined = _DATA.search(data)
    if inlined is None:
        return [], data
    return [strict_json(inlined.group(1))], data[: inlined.start(1)] + data[inlined.end(1) :]


def close(a: Any, b: Any) -> bool:
    if isinstance(a, dict) and isinstance(b, dict):
        return a.keys() == b.keys() and all(close(a[k], b[k]) for k in a)
    if isinstance(a, list) and isinstance(b, list):
        return len(a) == len(b) and all(map(close, a, b))
    if isinstance(a, float) and isinstance(b, float):
        return math.isclose(a, b, rel_tol=1e-9, abs_tol=1e-15)
    return type(a) is type(b) and bool(a == b)
