"""A run as JUnit XML, which CI systems show: one test case for each variant and one for each check."""

from __future__ import annotations

from xml.etree import ElementTree as ET

from profile_and_optimize.core.cell import Role
from profile_and_optimize.core.verdict import FAIL_IF, Call
from profile_and_optimize.report.arms import FAILED, ArmView
from profile_and_optimize.report.view import GateView, View


def junit(v: View, fail_if: str = "worse") -> bytes:
    """A variant fails when its call is among those of `fail_if` (see `core.verdict.FAIL_IF`), and is skipped when it is UNKNOWN and
    that does not fail. A variant that never served is an error. A check that was not evaluated is skipped."""
    root = ET.Element("testsuites", name=v.run_id)
    _suite(
        root, v, f"{v.run_id}: variants", [_variant(v, a, fail_if) for a in v.arms if a.role == Role.CANDIDATE.value]
    )
    _suite(root, v, f"{v.run_id}: checks", [_check(v, g) for g in v.gates])
    ET.indent(root)
    return b'<?xml version="1.0" encoding="utf-8"?>\n' + ET.tostring(root, encoding="utf-8") + b"\n"


def _suite(root: ET.Element, v: View, name: str, cases: list[ET.Element]) -> None:
    counts = {state: str(sum(c.find(one) is not None for c in cases)) for state, one in _STATES.items()}
    about = {"name": name, "tests": str(len(cases)), "timestamp": _iso(v.stamp), **counts}
    suite = ET.SubElement(root, "testsuite", about)
    suite.extend(cases)


_STATES = {"failures": "failure", "errors": "error", "skipped": "skipped"}


def _iso(stamp: str) -> str:
    """From "2026-11-21 09:00:00 UTC"."""
    return stamp.removesuffix(" UTC").replace(" ", "T")


def _variant(v: View, a: ArmView, fail_if: str) -> ET.Element:
    case = ET.Element(
        "testcase", classname=f"{v.run_id}.variants", name=f"{a.id} against {v.baseline}: fail if {fail_if}"
    )
    told = f"{a.state}: {a.effect_text or 'no effect'}; {a.reason}"
    if a.state == FAILED:
        ET.SubElement(case, "error", message=a.reason)
    elif a.state in {c.value for c in FAIL_IF[fail_if]}:
        ET.SubElement(case, "failure", message=told)
    elif a.state not in {Call.BETTER.value, Call.SAME.value, Call.WORSE.value}:
        ET.SubElement(case, "skipped", message=told)
    ET.SubElement(case, "system-out").text = told
    return case


def _check(v: View, g: GateView) -> ET.Element:
    case = ET.Element("testcase", classname=f"{v.run_id}.checks", name=g.name)
    if g.state != "pass":
        kind = "failure" if g.state == "failed" else "skipped"
        ET.SubElement(case, kind, message=g.reason)
        ET.SubElement(case, "system-out").text = g.todo
    return case
