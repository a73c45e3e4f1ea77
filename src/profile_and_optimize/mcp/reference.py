"""docs/reference/mcp.md: the tools as a client is told of them."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from profile_and_optimize.mcp import KEY
from profile_and_optimize.mcp.schema import description, hints, input_schema, output_schema, tool_ops
from profile_and_optimize.ops.base import Op

HEAD = f"""# MCP tools

Written by `pao reference --write docs/reference`; a test compares. How the server is started, what it asks and what it refuses:
[mcp.md](../mcp.md). Every tool of the server `{KEY}` answers with the same envelope, which stands at the end.
"""


def page() -> str:
    tools = [_tool(name, op) for name, op in tool_ops().items()]
    envelope = "\n".join("    " + line for line in json.dumps(output_schema(), indent=1).splitlines())
    return "\n".join([HEAD, *tools, "## The envelope\n", envelope, ""])


def _tool(name: str, op: Op) -> str:
    lines = ["    " + line for line in description(op).splitlines()]
    true = ", ".join(k for k, v in hints(op).items() if v) or "none"
    schema = input_schema(op)
    needed = schema.get("required", [])
    rows = [_row(field, of, field in needed) for field, of in schema["properties"].items()]
    return "\n".join(
        [f"## {name}\n", *lines, "", f"Hints: {true}\n", "| argument | values | |", "|---|---|---|", *rows, ""]
    )


def _row(name: str, of: Mapping[str, Any], needed: bool) -> str:
    default = f"default {json.dumps(of['default'])}" if "default" in of else ""
    told = "; ".join(text for text in (of.get("description", ""), "needed" if needed else default) if text)
    return f"| `{name}` | {cell(_values(of))} | {cell(told)} |"


def _values(of: Mapping[str, Any]) -> str:
    if "enum" in of:
        return ", ".join(str(v) for v in of["enum"])
    if of.get("type") == "array":
        return f"list of {_values(of.get('items', {}))}"
    bounds = [f"{word} {of[key]:g}" for key, word in _BOUNDS.items() if key in of]
    return " ".join([str(of.get("type", "any")), *bounds])


_BOUNDS = {"minimum": "from", "exclusiveMinimum": "above", "maximum": "to", "exclusiveMaximum": "below"}


def cell(text: str) -> str:
    """Text that stays one cell of a table."""
    return " ".join(text.split()).replace("|", "\\|")
