"""What the files of the worker share: how they refuse, and how they tell of progress. Standard library only."""

from __future__ import annotations

import json
from typing import Any


class Refused(Exception):
    """Why a task gives no score, in words for the user: a stable code, a message, the next thing to do."""

    def __init__(self, code: str, message: str, then: str = "") -> None:
        super().__init__(message)
        self.code, self.then = code, then


class NoAnswer(Exception):
    """A request that got no answer after every try."""


def tell(**progress: Any) -> None:
    print("PAO " + json.dumps(progress), flush=True)
