"""report.html: one page that needs nothing but itself. Everything from outside is escaped, by Jinja2 or by `inline_json`."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from collections.abc import Mapping, Sequence
from functools import cache
from importlib.resources import files
from typing import Any

from jinja2 import Environment, FunctionLoader, StrictUndefined
from markupsafe import Markup

from profile_and_optimize.report.view import View

# What could end the script element, open another, or end a line in an old JavaScript parser.
_ESCAPES = str.maketrans({"<": "\\u003c", ">": "\\u003e", "&": "\\u0026", "\u2028": "\\u2028", "\u2029": "\\u2029"})
_MINUS = re.compile(r"(?<![\w-])-(?=\d)")


def page(v: View, data: Mapping[str, Any], root: str = "") -> bytes:
    """`root` stands in the foot. `data` is inlined as JSON for whoever wants the numbers out of the page again."""
    text = (
        _environment()
        .get_template("report.html")
        .render(v=v, f=v.forest, data=inline_json(data), policy=policy(), root=root)
    )
    return (text.rstrip("\n") + "\n").encode()


def inline_json(value: Any) -> Markup:
    """JSON that may stand inside a script element whatever it holds."""
    text = json.dumps(value, sort_keys=True, allow_nan=False, ensure_ascii=False, separators=(",", ":"))
    return Markup(text.translate(_ESCAPES))


def policy() -> str:
    """The page's content policy: nothing is fetched, no form leads away, and no script runs but ours, byte for byte."""
    ours = base64.b64encode(hashlib.sha256(_part("script.js").encode()).digest()).decode()
    return f"default-src 'none'; style-src 'unsafe-inline'; script-src 'sha256-{ours}'; img-src data:; base-uri 'none'; form-action 'none'"


def minus(text: str) -> str:
    """A hyphen before a digit as a minus sign, as wide as the plus above it."""
    return _MINUS.sub("\u2212", text)


def slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


def by_block(v: View) -> Sequence[int]:
    return sorted({b.block for a in v.arms for b in a.paired})


@cache
def _environment() -> Environment:
    env = Environment(
        autoescape=True, loader=FunctionLoader(_part), undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    env.filters.update(minus=minus, slug=slug)
    env.globals.update(by_block=by_block, style=Markup(_part("style.css")), script=Markup(_part("script.js")))
    return env


def _part(name: str) -> str:
    """A template, style or script of this package."""
    return files("profile_and_optimize.report").joinpath("templates", name).read_text(encoding="utf-8")
