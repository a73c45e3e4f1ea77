"""Recorded conversations, made up for tests."""

from __future__ import annotations

import json
from pathlib import Path


def chats(path: Path, count: int, turns: int = 3) -> Path:
    """JSON lines in ShareGPT's shape; each conversation begins with words of its own."""
    rows = [
        {"conversations": [
            {"from": who, "value": f"{who} {i} turn {n}: " + "words that fill a turn " * (1 + i % 4)}
            for n in range(turns) for who in ("human", "gpt")
        ]}
        for i in range(count)
    ]  # fmt: skip
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path
