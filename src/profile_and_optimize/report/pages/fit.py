"""How wide text is in the report's font, so that lines are broken and names shortened before anything is drawn."""

from __future__ import annotations

import unicodedata
from collections.abc import Callable
from functools import cache

# Advance widths of DejaVu Sans 2.37 and of its bold face, from space to tilde, in thousandths of an em, rounded up.
_WIDTHS = (
    318, 401, 460, 838, 637, 951, 780, 275, 391, 391, 500, 838, 318, 361, 318, 337, 637, 637, 637, 637, 637, 637, 637, 637,
    637, 637, 337, 337, 838, 838, 838, 531, 1000, 685, 687, 699, 771, 632, 576, 775, 752, 295, 295, 656, 558, 863, 749, 788,
    604, 788, 695, 635, 611, 732, 685, 989, 686, 611, 686, 391, 337, 391, 838, 500, 500, 613, 635, 550, 635, 616, 353, 635,
    634, 278, 278, 580, 278, 975, 634, 612, 635, 635, 412, 521, 393, 634, 592, 818, 592, 592, 525, 637, 337, 637, 838,
)  # fmt: skip
_BOLD_WIDTHS = (
    349, 457, 521, 838, 696, 1002, 873, 307, 458, 458, 523, 838, 380, 416, 380, 366, 696, 696, 696, 696, 696, 696, 696, 696,
    696, 696, 400, 400, 838, 838, 838, 581, 1000, 774, 763, 734, 831, 684, 684, 821, 837, 373, 373, 775, 638, 996, 837, 851,
    733, 851, 771, 721, 683, 813, 774, 1104, 771, 725, 726, 458, 366, 458, 838, 500, 500, 675, 716, 593, 716, 679, 436, 716,
    712, 343, 343, 666, 343, 1042, 712, 688, 716, 716, 494, 596, 479, 712, 652, 924, 646, 652, 583, 712, 366, 712, 838,
)  # fmt: skip
# In ems: every character of the mono face; any other character, save rare ligatures.
MONO, _OTHER = 0.6021, 1.0


def ems(text: str, *, bold: bool = False) -> float:
    """An upper bound of the width, in units of the font size."""
    return sum(_ems(char, bold) for char in text)


@cache
def _ems(char: str, bold: bool) -> float:
    at = ord(char) - 32
    if 0 <= at < len(_WIDTHS):
        return (_BOLD_WIDTHS if bold else _WIDTHS)[at] / 1000
    return 0.0 if unicodedata.combining(char) else _OTHER


def cut(text: str, most: float, *, bold: bool = False) -> str:
    """`text` with its middle left out where it is wider than `most` ems: names often differ at their ends."""
    if ems(text, bold=bold) <= most:
        return text
    room = most - ems("…", bold=bold)
    head = _fitting(text, room * 2 / 3, bold)
    tail = _fitting(text[:head:-1], room - ems(text[:head], bold=bold), bold)
    return f"{text[:head].rstrip()}…{text[len(text) - tail :].lstrip()}"


def _fitting(text: str, room: float, bold: bool) -> int:
    """How many characters from the start fit."""
    for i, char in enumerate(text):
        room -= _ems(char, bold)
        if room < 0:
            return i
    return len(text)


def wrap(text: str, most: float, *, mono: bool = False) -> list[str]:
    """Lines of at most `most` ems, broken at spaces; a word that is wider is broken where it must be. Never empty."""
    width = _mono if mono else ems
    lines, line = [], ""
    for i, word in enumerate(text.split(" ")):
        candidate = f"{line} {word}" if i else word
        if width(candidate) <= most:
            line = candidate
            continue
        lines += [line] if line else []
        *full, line = _pieces(word, most, width)
        lines += full
    return [*lines, line]


def _mono(text: str) -> float:
    return len(text) * MONO


def _pieces(word: str, most: float, width: Callable[[str], float]) -> list[str]:
    pieces, piece = [], ""
    for char in word:
        if piece and width(piece + char) > most:
            pieces.append(piece)
            piece = ""
        piece += char
    return [*pieces, piece]
