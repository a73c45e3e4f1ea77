"""Idioms that the house rules for words exclude, wherever a person reads: README, docs, help texts, messages, report text.

    python bench/words.py            # lists each with its place and what to write instead; exit 1 when there is one
    python bench/words.py --count    # how often each occurs

Looked at: prose of README.md, CHANGELOG.md and docs/ (not code blocks and printed output, not generated pages), templates of
reports, texts in values of tables (.toml), and every text of src/ and demo/ that holds a blank and is not a docstring, a
regular expression, a list of words or a program. Texts of data sets (workloads/texts, the demo's tasks) are data.
"""

from __future__ import annotations

import argparse
import ast
import re
import sys
import tomllib
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
# What is not written, and what is. Word boundaries are added.
INSTEAD = (
    (r"(?<!there )is no(?= (?!longer|more than|less than|other|better)\w+)", "is not a ..."),
    (r"(?<!there )are no(?= (?!longer|more|better)\w+)", "are not ..."),
    (r"(is|are) none", "must be ..., got ..."),
    (r"hangs? on", "depends on"),
    (r"parted by", "separated by"),
    (r"stands? again", "appears twice"),
    (r"(goes|go|went) on", "resumes, continues"),
    (r"(says|said) (?!so\b)", "reports, shows"),
    (r"(begins|began)", "starts, started"),
    (r"of theirs", "name them"),
    (r"(?<!unless )whose part it is", "name the part"),
    (r"is not that of", "differs from"),
    (r"each its own", "one per ..."),
    (r"prompts met", "prompts sent"),
    (r"looks? taken", "interim analyses done"),
    (r"lies? (within|around|beside|over)", "is in, contains"),
    (r"left out;", "a noun phrase and 'default: X'"),
    (r"when left out", "default: X"),
    (r"a person", "someone, the user"),
    (r"it was told", "was given"),
    (r"is told", "is reported"),
    (r"the same bytes again", "identical bytes"),
    (r"speaks? of", "refers to, covers"),
    (r"there (is|are) only", "the choices are ..."),
    (r"knows nothing of", "does not know"),
    (r"nothing of", "no part of"),
    (r"of what it", "name it"),
    (r"of that kind", "name the kind"),
)
# serve.sh of every stored run is compared with this, byte by byte.
KEPT = ("# Measured on one node under one load; CHAMPION.md says which.",)


@dataclass(frozen=True, slots=True)
class Place:
    file: str
    line: int
    text: str


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--count", action="store_true")
    args = parser.parse_args()
    found = [(p, pattern, instead) for p in places() for pattern, instead in INSTEAD if occurs(pattern, p.text)]
    if args.count:
        for pattern, n in Counter(pattern for _, pattern, _ in found).most_common():
            print(f"{n:5}  {pattern}")
    else:
        for place, pattern, instead in found:
            hit = re.search(rf"(?<!\w)(?:{pattern})", place.text, re.IGNORECASE)
            print(f"{place.file}:{place.line}: {hit and hit[0]!r} -> {instead}: {' '.join(place.text.split())[:120]}")
    print(f"{len(found)} idioms to rewrite")
    return 1 if found else 0


def occurs(pattern: str, text: str) -> bool:
    return re.search(rf"(?<!\w)(?:{pattern})", text, re.IGNORECASE) is not None


def places() -> Iterator[Place]:
    """Every text that a person reads, with its place."""
    for path in [ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md"))]:
        if "reference" not in path.relative_to(ROOT).parts:  # generated from the help texts
            yield from of_prose(path)
    for path in sorted((ROOT / "src").rglob("*")):
        if path.suffix == ".py":
            yield from of_code(path)
        elif path.suffix in {".html", ".j2"}:
            yield from of_prose(path)
        elif path.suffix == ".toml" and path.parent.name != "texts":
            yield from of_table(path)
    for path in sorted((ROOT / "demo").glob("*.py")):
        if path.name != "words.py":
            yield from of_code(path)


def of_prose(path: Path) -> Iterator[Place]:
    fenced = False
    for number, line in enumerate(path.read_text().splitlines(), 1):
        if line.lstrip().startswith("```"):
            fenced = not fenced
        elif not fenced and not line.startswith(("#!", "    ") if path.suffix == ".md" else "#!"):
            yield Place(str(path.relative_to(ROOT)), number, re.sub(r"`[^`]*`", "`x`", line))


def of_table(path: Path) -> Iterator[Place]:
    text = path.read_text()
    for value in leaves(tomllib.loads(text)):
        if " " in value.strip() and not pattern_or_program(value):
            at = text.find(value.splitlines()[0])
            yield Place(str(path.relative_to(ROOT)), text.count("\n", 0, max(at, 0)) + 1, value)


def leaves(value: object) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for v in value.values():
            yield from leaves(v)
    elif isinstance(value, list):
        for v in value:
            yield from leaves(v)


def pattern_or_program(text: str) -> bool:
    if "\\" in text or "(?" in text:
        return True
    return re.search(r"^\s*(import|from|def) ", text, re.MULTILINE) is not None and "\n" in text


def of_code(path: Path) -> Iterator[Place]:
    tree = ast.parse(path.read_text())
    skip = {id(part) for node in ast.walk(tree) for part in unread(node)}
    for node in ast.walk(tree):
        if id(node) in skip:
            continue
        if isinstance(node, ast.JoinedStr):
            text = "".join(v.value if isinstance(v, ast.Constant) else "{}" for v in node.values)
        elif isinstance(node, ast.Constant) and isinstance(node.value, str):
            text = node.value
        else:
            continue
        if " " in text.strip() and not pattern_or_program(text) and text not in KEPT:
            yield Place(str(path.relative_to(ROOT)), node.lineno, text)


def unread(node: ast.AST) -> Iterator[ast.AST]:
    """Texts under `node` that are no text of their own: docstrings, and the parts of an f-string."""
    if isinstance(node, ast.JoinedStr):
        yield from node.values
    body = getattr(node, "body", None)
    if isinstance(body, list):
        yield from (e.value for e in body if isinstance(e, ast.Expr) and isinstance(e.value, ast.Constant))


if __name__ == "__main__":
    sys.exit(main())
