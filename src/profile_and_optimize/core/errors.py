"""The named errors. The tree, with the exit code each gives:

PaoError
+-- WrongUse        2   the request cannot be meant: unknown name, bad config, refused acknowledgement
+-- Unreachable     2   the target cannot be reached, before anything was started
+-- GateRefused     1   a gate, check or expectation said no
+-- Undecided       4   neither yes nor no: held in part, unknown
+-- BrokeMidway     3   disk, engine, endpoint or file failed after the start
    +-- Corrupted   3   a record or journal is not what was written
"""

from __future__ import annotations

# What arithmetic on odd but well-formed values may end in.
ODD = (TypeError, ValueError, LookupError, AttributeError, ArithmeticError)


class PaoError(Exception):
    """What went wrong, where, and the next command to type.

    `code` is the stable name in the JSON envelope; `exit_code` follows the table above.
    """

    exit_code = 3
    code = "broke"

    def __init__(self, message: str, *, where: str = "", next: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.where = where
        self.next = next

    def __str__(self) -> str:
        where = f"{self.where}: " if self.where else ""
        then = f" -- next: {self.next}" if self.next else ""
        return f"{where}{self.message}{then}"


class WrongUse(PaoError):
    exit_code = 2
    code = "wrong_use"


class Unreachable(PaoError):
    exit_code = 2
    code = "unreachable"


class GateRefused(PaoError):
    exit_code = 1
    code = "refused"


class Undecided(PaoError):
    exit_code = 4
    code = "undecided"


class BrokeMidway(PaoError):
    exit_code = 3
    code = "broke"


class Corrupted(BrokeMidway):
    code = "corrupted"
