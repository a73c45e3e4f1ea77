"""What a worker says at a bad end, as an error of the product's."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator, Mapping

from profile_and_optimize.core.errors import BrokeMidway, GateRefused, PaoError, WrongUse
from profile_and_optimize.quant.pao_ptq.stop import Stop

KINDS: Mapping[str, type[PaoError]] = {"wrong_use": WrongUse, "refused": GateRefused, "broke": BrokeMidway}


@contextlib.contextmanager
def our_errors() -> Iterator[None]:
    """Around a call into the workers' package."""
    try:
        yield
    except Stop as stop:
        raise as_error(stop) from None


def as_error(stop: Stop) -> PaoError:
    return error_of(stop.line(), where="", next="")


def error_of(told: Mapping[str, object], *, where: str, next: str) -> PaoError:
    """From a worker's last line; `where` and `next` stand in for what it leaves empty."""
    kind = KINDS.get(str(told.get("code")), BrokeMidway)
    return kind(
        str(told.get("message") or "failed"), where=str(told.get("where") or where), next=str(told.get("next") or next)
    )
