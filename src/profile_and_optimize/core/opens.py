"""What the texts of a request make an op open: declared beside the field, so that who judges a request need not guess."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from enum import StrEnum


class Kind(StrEnum):
    """PATH is read, with what the links of a folder lead to; TREE is read and links below it are not followed; OUT is written.
    RUN is a run's path, id or slug; MODEL a folder or a hub's name; DATA a file or the name of a data set; PLACE a folder or a
    URL. CAMPAIGN is a campaign file and ARMS a table of arms, whose contents are judged too. FLAGS are settings of an engine."""

    PATH = "path"
    TREE = "tree"
    OUT = "out"
    RUN = "run"
    MODEL = "model"
    DATA = "data"
    PLACE = "place"
    URL = "url"
    PYTHON = "python"
    IMAGE = "image"
    CAMPAIGN = "campaign"
    ARMS = "arms"
    FLAGS = "flags"


def _whole(text: str) -> Iterable[str]:
    return (text,)


@dataclass(frozen=True, slots=True)
class Opens:
    """Stands in the `Annotated` type of a field. `parts` takes the text apart exactly as the op does, and raises WrongUse as
    the op does. A text field without it is judged by all that it could mean."""

    kind: Kind
    parts: Callable[[str], Iterable[str]] = _whole


PATH, OUT, RUN, MODEL, DATA, PLACE = (
    Opens(Kind.PATH), Opens(Kind.OUT), Opens(Kind.RUN), Opens(Kind.MODEL), Opens(Kind.DATA), Opens(Kind.PLACE),
)  # fmt: skip
URL, PYTHON, CAMPAIGN, ARMS, FLAGS, TREE = (
    Opens(Kind.URL), Opens(Kind.PYTHON), Opens(Kind.CAMPAIGN), Opens(Kind.ARMS), Opens(Kind.FLAGS), Opens(Kind.TREE),
)  # fmt: skip
