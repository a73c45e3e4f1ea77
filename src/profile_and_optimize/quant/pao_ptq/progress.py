"""What a step tells whoever started it: lines `PAO {json}` on stdout."""

from __future__ import annotations

import json


def tell(stage: str, says: str, *, done: int = 0, of: int = 0, left_s: float | None = None) -> None:
    line: dict[str, object] = {"stage": stage, "done": done, "of": of, "says": says}
    print("PAO " + json.dumps(line | ({"left_s": round(left_s, 1)} if left_s is not None else {})), flush=True)
