"""Work shared out over the cores that we may use. The answer does not depend on how many there are."""

from __future__ import annotations

import gc
import multiprocessing
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from typing import Any, TypeVar

T = TypeVar("T")
R = TypeVar("R")


def cores() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def can_fork() -> bool:
    """A fork is there at once and has all that we have; among threads it could inherit a lock that nobody gives back."""
    return threading.active_count() == 1 and "fork" in multiprocessing.get_all_start_methods()


@contextmanager
def without_collector() -> Iterator[None]:
    """While a million objects are made that are all kept, looking through them for garbage again and again costs as much
    as making them."""
    on = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if on:
            gc.enable()


def spread(work: Callable[[T], R], parts: Sequence[T]) -> list[R]:
    """`[work(part) for part in parts]`, by several processes where there are several parts and they can be had.

    Without a fork, `work` and `parts` are pickled once for each process; results always are.
    """
    if len(parts) > 1 and cores() > 1:
        context = multiprocessing.get_context("fork" if can_fork() else "spawn")
        try:
            with ProcessPoolExecutor(min(cores(), len(parts)), context, _hold, (work, parts)) as pool:
                return list(pool.map(_do, range(len(parts))))
        except (OSError, BrokenProcessPool, RuntimeError):
            pass  # no processes to be had here: one core does the same
    return [work(part) for part in parts]


# What a process of the pool was handed when it began.
_held: tuple[Callable[[Any], Any], Sequence[Any]] | None = None


def _hold(work: Callable[[Any], Any], parts: Sequence[Any]) -> None:
    global _held
    _held = work, parts


def _do(i: int) -> Any:
    assert _held is not None
    work, parts = _held
    return work(parts[i])
