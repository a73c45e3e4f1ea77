"""What the pages are made of, whatever it comes from: a campaign's evidence, or the bundled synthetic rows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.report.pages.champion import Champion
from profile_and_optimize.report.pages.model import Omitted, Stamp
from profile_and_optimize.report.words import plain

MOST_TYPED = 400


@dataclass(frozen=True, slots=True)
class Options:
    """Lines that whoever renders may type in place of the derived ones. They change the page, so they are kept beside it."""

    variants_line: str = ""
    data_source_line: str = ""

    def __post_init__(self) -> None:
        for name, text in (("--variants-line", self.variants_line), ("--data-source-line", self.data_source_line)):
            if not isinstance(text, str) or len(text) > MOST_TYPED or text != plain(text):
                raise WrongUse(f"one line of at most {MOST_TYPED} printable characters", where=name)

    @property
    def typed(self) -> tuple[tuple[str, str], ...]:
        named = (("--variants-line", self.variants_line), ("--data-source-line", self.data_source_line))
        return tuple((name, text) for name, text in named if text)


@dataclass(frozen=True, slots=True)
class Source:
    """`rows` are atlas rows. `missing` keeps the report from being complete; `omitted` are pages that have no data.
    `champion` is None where nothing was compared. `starts` and `earlier` are lines on lost servers
    and on earlier campaigns."""

    stamp: Stamp
    model: str
    rows: Sequence[Mapping[str, Any]]
    primary: tuple[str, ...]
    data_line: str
    missing: tuple[str, ...]
    omitted: tuple[Omitted, ...]
    champion: Champion | None
    options: Options = Options()
    starts: tuple[str, ...] = ()
    earlier: tuple[str, ...] = ()
