"""Writes the demo's part of README.md and its picture from a run of `make demo`.

    python -m demo.readme [RUN] [--times .demo/times.json] [--readme README.md] [--picture docs/demo.png | --no-picture]

What it writes is the beginning of the run's own report.txt, then the times of that run, its date and its machine: nothing is typed
by hand, and the same run gives the same bytes. It refuses a text that names a place on this machine.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
BEGIN, END = "<!-- demo:begin -->", "<!-- demo:end -->"
MOST_LINES = 45
PLACE = re.compile(r"(?<![\w.:/])(/(?:[\w.+-]+/)+[\w.+-]*)")
PICTURE = ("--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", "--window-size=1200,1320")


def excerpt(report: str, most: int = MOST_LINES) -> str:
    """The first whole paragraphs that have at most so many lines together."""
    kept: list[str] = []
    for paragraph in report.strip("\n").split("\n\n"):
        lines = paragraph.split("\n")
        if kept and len(kept) + 1 + len(lines) > most:
            break
        kept += [*([""] if kept else []), *lines]
    return "\n".join(kept)


def block(report: str, times: dict[str, Any]) -> str:
    """What stands between the marks. Raises SystemExit for a text that names a place on the machine."""
    steps = [f"{seconds:8.0f} s  {name}" for name, seconds in times["times"].items()]
    together = f"{sum(times['times'].values()):8.0f} s  together"
    # The model is named by its absolute path; within the repository the reader's own is meant.
    shown = [*excerpt(report.replace(f"{ROOT}/", "")).split("\n"), "", *steps, together]
    left_out = (
        [f"Left out, to fit into {times['budget_minutes']:g} minutes: {'; '.join(times['left_out'])}."]
        if times["left_out"]
        else []
    )
    words = [f"({times['date']}; {times['machine']}; Python {times['python']}. Times with downloads.)", *left_out]
    text = "\n".join([BEGIN, "", *(f"    {line}".rstrip() for line in shown), "", *words, END])
    if place := PLACE.search(text):
        raise SystemExit(
            f"the report names a place on this machine, {place.group(1)}: run the demo again with relative paths"
        )
    return text


def replaced(readme: str, new: str) -> str:
    """Raises SystemExit unless both marks are there once, in order."""
    if readme.count(BEGIN) != 1 or readme.count(END) != 1 or readme.index(BEGIN) > readme.index(END):
        raise SystemExit(f"README must hold {BEGIN} and after it {END}, each once")
    return readme[: readme.index(BEGIN)] + new + readme[readme.index(END) + len(END) :]


def picture(run: Path, to: Path) -> None:
    """The page's first screen, as Chromium draws it."""
    browser = shutil.which("chromium") or shutil.which("google-chrome")
    if browser is None:
        raise SystemExit("no chromium for the picture: apt-get install chromium, or --no-picture")
    made = to.with_suffix(".new.png")
    page = (run / "report.html").resolve().as_uri()
    subprocess.run(
        [browser, *PICTURE, f"--screenshot={made.resolve()}", page], check=True, capture_output=True, timeout=120
    )
    made.replace(to)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("run", type=Path, nargs="?", help="default: the run that the times name")
    parser.add_argument("--times", type=Path, default=ROOT / ".demo/times.json")
    parser.add_argument("--readme", type=Path, default=ROOT / "README.md")
    parser.add_argument("--picture", type=Path, default=ROOT / "docs/demo.png")
    parser.add_argument("--no-picture", action="store_true")
    args = parser.parse_args()
    times = json.loads(args.times.read_text())
    run = args.run or ROOT / times["run"]
    if run.name != Path(times["run"]).name:
        raise SystemExit(f"{args.times} has the times of {times['run']}, not of {run.name}")
    new = replaced(args.readme.read_text(), block((run / "report.txt").read_text(), times))
    args.readme.write_text(new)
    if not args.no_picture:
        picture(run, args.picture)
    print(f"{args.readme} has the demo of {times['date']}")


if __name__ == "__main__":
    main()
