"""The records of one trial as columns: what millions of chunk times are computed from. Reads like a tuple of records."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence, Sized
from functools import cached_property
from typing import Any, overload

import numpy as np

from profile_and_optimize.core.finish import bad_reason
from profile_and_optimize.core.records import RequestRecord
from profile_and_optimize.stats.steady import Steady, find_steady
from profile_and_optimize.stats.tokens import MISSING as MISSING  # stands for None in a column of integers
from profile_and_optimize.stats.tokens import Counts, token_counts

NS = 1e-9
LONGEST_NS = 2**53  # 104 days; beyond it sums of nanoseconds would no longer be exact
SMALL = np.dtype("<u4")
TIMES = ("intended_ns", "sent_ns", "done_ns")
NUMBERS = ("index", *TIMES, "first_byte_ns", "prompt_tokens", "completion_tokens", "status", "max_tokens")
TEXTS = ("finish_reason", "error")


class Records(Sequence[RequestRecord]):
    """Column i of every field belongs to request i of this sequence; None is MISSING in columns of integers.

    `chunks` is how many content chunks a request had, `first_ns` the time of the first (MISSING without one), and
    `gaps_ns` the gaps between its chunks, flat over the requests in their order. Checked at birth by the rules of
    `RequestRecord`, so that a record taken out is always a good one. Raises ValueError naming the request.
    """

    def __init__(
        self, numbers: dict[str, np.ndarray], texts: dict[str, list[str | None]],
        *, chunks: np.ndarray, first_ns: np.ndarray, gaps_ns: np.ndarray,
    ) -> None:  # fmt: skip
        self._hold(numbers, texts, chunks, first_ns, gaps_ns)
        self._check()
        self._derive()
        if (np.where(chunks > 0, first_ns, 0) + self.span_ns >= LONGEST_NS).any():
            raise ValueError("a chunk time is beyond 104 days")

    def _hold(
        self, numbers: dict[str, np.ndarray], texts: dict[str, list[str | None]], chunks: np.ndarray, first_ns: np.ndarray,
        gaps_ns: np.ndarray,
    ) -> None:  # fmt: skip
        self.numbers = numbers
        self.intended_ns, self.sent_ns, self.done_ns = (numbers[n] for n in TIMES)
        self.first_byte_ns, self.prompt_tokens, self.completion_tokens = (numbers[n] for n in NUMBERS[4:7])
        self.status, self.max_tokens = (numbers[n] for n in NUMBERS[7:])
        self.finish_reason, self.error = (texts[n] for n in TEXTS)
        self.chunks, self.first_ns, self.gaps_ns = chunks, first_ns, gaps_ns
        self.ok = np.array([e is None for e in self.error], dtype=bool)

    def _derive(self) -> None:
        self.gap_ends = _from_zero(np.maximum(self.chunks - 1, 0))
        self.span_ns = np.diff(_from_zero(self.gaps_ns)[self.gap_ends])  # from first to last chunk; 0 below two chunks

    def _check(self) -> None:
        columns: list[Sized] = [*self.numbers.values(), self.finish_reason, self.error, self.chunks, self.first_ns]
        if len({len(c) for c in columns}) > 1:
            raise ValueError("columns of unequal length")
        for name in ("index", *TIMES):
            self._refuse(_far(self.numbers[name]), f"{name} is missing or beyond 104 days")
        wrong = (self.sent_ns < self.intended_ns) | (self.done_ns < self.sent_ns)
        self._refuse(wrong, "times out of order")
        has = self.chunks > 0
        self._refuse((self.chunks < 0) | (has == (self.first_ns == MISSING)), "chunks and first chunk do not agree")
        self._refuse(has & _far(self.first_ns), "first chunk beyond 104 days")
        self._refuse(self.ok & ~has, "no chunk and no error")
        bad = {reason for reason in set(self.finish_reason) if bad_reason(reason)}
        if bad:
            self._refuse(self.ok & np.array([r in bad for r in self.finish_reason]), "no error and a bad finish reason")
        gaps = self.gaps_ns
        if len(gaps) != int(self.chunks.sum()) - int(has.sum()):
            raise ValueError(f"{len(gaps)} gaps do not fit the numbers of chunks")
        if gaps.dtype != SMALL and len(gaps):  # small ones have no sign, and not enough digits to run over
            if int(gaps.min()) < 0:
                raise ValueError("chunk times go backwards")
            if float(gaps.sum(dtype=np.float64)) >= LONGEST_NS * 512.0:
                raise ValueError("chunk times are beyond 104 days")

    def _refuse(self, wrong: np.ndarray, text: str) -> None:
        if wrong.any():
            raise ValueError(f"request {self.numbers['index'][int(wrong.argmax())]}: {text}")

    @staticmethod
    def of(records: Sequence[RequestRecord]) -> Records:
        """These records as columns; they themselves when they are columns already."""
        if isinstance(records, Records):
            return records
        if isinstance(records, Elsewhere):
            return records.fetched
        numbers = {n: column(getattr(r, n) for r in records) for n in NUMBERS}
        texts = {n: [getattr(r, n) for r in records] for n in TEXTS}
        gaps = [b - a for r in records for a, b in zip(r.chunk_ns, r.chunk_ns[1:], strict=False)]
        return Records(
            numbers, texts, chunks=column(len(r.chunk_ns) for r in records),
            first_ns=column(r.chunk_ns[0] if r.chunk_ns else None for r in records), gaps_ns=np.array(gaps, dtype=np.int64),
        )  # fmt: skip

    @cached_property
    def last_ns(self) -> np.ndarray:
        """Time of every request's last chunk; MISSING without one."""
        return np.where(self.chunks > 0, self.first_ns + self.span_ns, MISSING)

    @cached_property
    def issue_order(self) -> np.ndarray:
        """Positions of the requests in the order in which the load asked for them."""
        return np.lexsort((self.numbers["index"], self.intended_ns))

    @cached_property
    def counts(self) -> Counts:
        """Tokens in and out as far as they can be believed."""
        return token_counts(
            ok=self.ok, usage=self.completion_tokens, prompt=self.prompt_tokens, chunks=self.chunks, asked=self.max_tokens,
            by_us=self.status != MISSING, finish=self.finish_reason,
        )  # fmt: skip

    @cached_property
    def tpots(self) -> np.ndarray:
        """(t_last - t_first) / (osl - 1) of every good request in seconds; NaN where it has none (below two tokens, no
        believable count, all chunks at one moment) or the request failed."""
        tokens = self.counts.output
        has = (tokens >= 2) & (self.span_ns > 0)
        return np.where(has, self.span_ns * NS / np.where(has, tokens - 1, 1), np.nan)

    @cached_property
    def steady(self) -> Steady:
        """What these records say of their own start-up."""
        return find_steady(self.tpots[self.issue_order])

    def chunk_ns(self) -> tuple[np.ndarray, np.ndarray]:
        """(times, owners): the time of every chunk, flat, and whose it is. Made anew: the gaps are what is kept."""
        owners = np.repeat(np.arange(len(self)), self.chunks)
        steps = np.zeros(len(owners), dtype=np.int64)
        starts = (np.cumsum(self.chunks) - self.chunks)[self.chunks > 0]
        inner = np.ones(len(owners), dtype=bool)
        inner[starts] = False
        steps[inner] = self.gaps_ns
        first = self.first_ns[self.chunks > 0]
        before = np.concatenate(([0], self.last_ns[self.chunks > 0][:-1])) if len(first) else first
        steps[starts] = first - before
        return np.cumsum(steps), owners

    def __reduce__(self) -> tuple[Any, ...]:
        """Between processes as one table; what was checked once is not checked again."""
        table = np.stack([*self.numbers.values(), self.chunks, self.first_ns])
        return _again, (table, list(self.numbers), [self.finish_reason, self.error], self.gaps_ns)

    def __len__(self) -> int:
        return len(self.done_ns)

    def __iter__(self) -> Iterator[RequestRecord]:
        return (self._row(i) for i in range(len(self)))

    @overload
    def __getitem__(self, i: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[RequestRecord, ...]: ...
    def __getitem__(self, i: int | slice) -> RequestRecord | tuple[RequestRecord, ...]:
        places = range(len(self))[i]
        return self._row(places) if isinstance(places, int) else tuple(self._row(k) for k in places)

    def _row(self, i: int) -> RequestRecord:
        values: dict[str, Any] = {n: None if v == MISSING else v for n in NUMBERS for v in [int(self.numbers[n][i])]}
        gaps = self.gaps_ns[self.gap_ends[i] : self.gap_ends[i + 1]]
        times = np.concatenate(([self.first_ns[i]], self.first_ns[i] + np.cumsum(gaps, dtype=np.int64)))
        chunk_ns = tuple(times.tolist()) if self.chunks[i] else ()
        return RequestRecord(**values, chunk_ns=chunk_ns, finish_reason=self.finish_reason[i], error=self.error[i])

    def __eq__(self, other: object) -> bool:
        return tuple(self) == tuple(other) if isinstance(other, (Records, tuple, list)) else NotImplemented

    def __hash__(self) -> int:
        return hash(tuple(self))

    def __repr__(self) -> str:
        return f"Records({len(self)} requests, {int(self.chunks.sum())} chunks)"


class Elsewhere(Sequence[RequestRecord]):
    """Records that lie on the disk and are read when somebody asks for one. `fetch` gives all `count` of them."""

    def __init__(self, count: int, fetch: Callable[[], Records]) -> None:
        self._count, self._fetch = count, fetch

    @cached_property
    def fetched(self) -> Records:
        return self._fetch()

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, i: int) -> RequestRecord: ...
    @overload
    def __getitem__(self, i: slice) -> tuple[RequestRecord, ...]: ...
    def __getitem__(self, i: int | slice) -> RequestRecord | tuple[RequestRecord, ...]:
        return self.fetched[i]

    def __iter__(self) -> Iterator[RequestRecord]:
        return iter(self.fetched)

    def __eq__(self, other: object) -> bool:
        return self.fetched == (other.fetched if isinstance(other, Elsewhere) else other)

    def __hash__(self) -> int:
        return hash(self.fetched)


def _again(table: np.ndarray, names: list[str], texts: list[list[str | None]], gaps_ns: np.ndarray) -> Records:
    made = Records.__new__(Records)
    *columns, chunks, first_ns = table
    made._hold(dict(zip(names, columns, strict=True)), dict(zip(TEXTS, texts, strict=True)), chunks, first_ns, gaps_ns)
    made._derive()
    return made


def _from_zero(values: np.ndarray) -> np.ndarray:
    """Sums of the first none, one, two, ... values."""
    out = np.zeros(len(values) + 1, dtype=np.int64)
    np.cumsum(values, out=out[1:])
    return out


def _far(values: np.ndarray) -> np.ndarray:
    """abs() would not do: that of MISSING is MISSING."""
    return (values <= -LONGEST_NS) | (values >= LONGEST_NS)


def column(values: Iterable[int | None]) -> np.ndarray:
    """A column of integers, None as MISSING. Raises ValueError for anything else: a float would be cut off unseen."""
    known = list(values)
    kinds = set(map(type, known))
    if not kinds <= {int, type(None)}:
        raise ValueError(f"a column of integers holds {', '.join(sorted(k.__name__ for k in kinds))}")
    try:
        if type(None) not in kinds:
            return np.array(known, dtype=np.int64)
        return np.array([MISSING if v is None else v for v in known], dtype=np.int64)
    except OverflowError as e:
        raise ValueError("an integer is beyond 64 bits") from e
