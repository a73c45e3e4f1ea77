"""A gate as text: a row per task, the call, what is still needed."""

from __future__ import annotations

from typing import Any

COLUMNS = ("task", "n", "base", "candidate", "loss, points", "interval", "lost", "won", "flips")


def text_of(gate: dict[str, Any], run: str) -> str:
    told = gate["answer"]
    rows = [COLUMNS, *(_task_row(t) for t in told["tasks"])]
    if len(told["tasks"]) != 1 and told["loss"] is not None:
        rows.append(_pooled_row(told))
    if not told["tasks"]:
        rows += [_plain_row(r) for r in gate["all_questions"]]
    if gate["floor"]:
        rows.append(_plain_row(gate["floor"]))
    widths = [max(len(row[i]) for row in rows) for i in range(len(COLUMNS))]
    table = ["  ".join(c.ljust(w) for c, w in zip(row, widths, strict=True)).rstrip() for row in rows]
    return "\n".join([*table, "", *_words(gate), f"run {run}"])


def _task_row(t: dict[str, Any]) -> tuple[str, ...]:
    return _row(t["task"], t, f"{_points(t['lower'])} .. {_points(t['upper'])}")


def _plain_row(t: dict[str, Any]) -> tuple[str, ...]:
    return _row(t["task"], t, "")


def _pooled_row(told: dict[str, Any]) -> tuple[str, ...]:
    """Of the look that the other rows are of; the flips are those of all questions, so the ones of the rows are added up."""
    n, tasks = sum(t["n"] for t in told["tasks"]), told["tasks"]
    sums = {k: sum(t[k] * t["n"] for t in tasks) / n for k in ("base", "candidate", "flips")}
    counts = {k: sum(t[k] for t in tasks) for k in ("lost", "won")}
    interval = f"{_points(told['lower'])} .. {_points(told['upper'])}"
    return _row("all tasks", {**sums, **counts, "n": n, "loss": told["loss"]}, interval)


def _row(name: str, t: dict[str, Any], interval: str) -> tuple[str, ...]:
    return (
        name, str(t["n"]), _percent(t["base"]), _percent(t["candidate"]), _points(t["loss"]), interval, str(t["lost"]), str(t["won"]),
        _percent(t["flips"]),
    )  # fmt: skip


def _percent(share: float | None) -> str:
    return "unknown" if share is None else f"{share:.1%}"


def _points(share: float | None) -> str:
    return "unknown" if share is None else f"{round(100 * share, 2) + 0.0:+.2f}"


def _share(cut: dict[str, Any], side: str) -> str:
    return f"{cut[side]} of {cut['n']} questions ({cut[side] / cut['n']:.1%})"


def _words(gate: dict[str, Any]) -> list[str]:
    told, asked = gate["answer"], gate["asked"]
    draft = " (DRAFT)" if gate["tier"] == "DRAFT" else ""
    looks = ", ".join(map(str, told["look_at"])) or "none"
    tolerance = f"{100 * asked['tolerance']:g}"
    lines = [
        f"{gate['call'].upper()}{draft}: {gate['reason']}",
        f"tolerance {tolerance} point{'' if tolerance == '1' else 's'}, error {asked['alpha']:.0%} over all looks and tasks; "
        f"{told['n']} of {told['planned']} planned questions asked; looked after {looks}",
    ]
    lines.append(gate["clusters"]["assumes"])
    if (cut := gate["unfinished"])["base"] or cut["candidate"]:
        lines.append(
            f"unfinished answers, neither right nor wrong: {_share(cut, 'base')} of the base, {_share(cut, 'candidate')} of the "
            f"candidate; a pass allows {cut['most']:.2%}"
        )
    lines += [f"asked only {line}" for line in gate["limited"]]
    if told["decided_at"] is not None and told["decided_at"] < told["n"]:
        every = gate["all_questions"][-1]
        lines.append(
            f"over all {every['n']} questions: {every['base']:.1%} and {every['candidate']:.1%}, {_points(every['loss'])}"
        )
    if gate["call"] == "unknown" and told["needed"]:
        more = f", or {told['samples']} samples per question" if told["samples"] else ""
        joined = (
            f" in {told['needed_clusters']} more clusters like these"
            if told["needed"] != told["needed_clusters"]
            else ""
        )
        lines.append(f"DRAFT: needs about {told['needed']} more questions{joined} at these flips and this loss{more}")
    return lines
