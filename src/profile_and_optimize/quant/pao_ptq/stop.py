"""How a step ends before its end."""

from __future__ import annotations

EXIT = {"refused": 1, "wrong_use": 2, "broke": 3}


class Stop(Exception):
    """An end that is said in one line: what happened, where, and what to do next. `code` is wrong_use, broke or refused."""

    def __init__(self, code: str, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.code, self.message, self.where, self.next = code, message, where, next

    def line(self) -> dict[str, str]:
        return {"code": self.code, "message": self.message, "where": self.where, "next": self.next}
