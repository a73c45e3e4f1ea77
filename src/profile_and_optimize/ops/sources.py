"""A run's own account of where it came from, against its draft: SOURCE.md, arms.tsv, and the campaign file if there was one."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import fields, replace
from pathlib import Path

from profile_and_optimize.campaign.evidence_of import Evidence
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.plan import Plan
from profile_and_optimize.evidence.reading import read_bytes
from profile_and_optimize.evidence.tree import Tree
from profile_and_optimize.ops.campaigns import ARMS, source_text
from profile_and_optimize.optimize.arms_tsv import arms_tsv

SOURCE, CONFIG = "SOURCE.md", "config.yaml"
MOST_BYTES = 1 << 20
_HOW = re.compile(r"^Made by `([^`\n]*)`\.$", re.M)


def check_sources(run: Path, ev: Evidence, tree: Tree) -> list[str]:
    """Each disagreement as a line. A run made by a library call has neither file."""
    if ev.draft is None:
        return []
    found = list(_source(run, ev.draft)) if SOURCE in tree.files else []
    if ARMS in tree.files and read_bytes(run / ARMS, MOST_BYTES) != arms_tsv(ev.draft.arms).encode():
        found.append(f"{ARMS}: not what the draft plan gives")
    return found + (list(_config(run, ev.draft)) if CONFIG in tree.files else [])


def _source(run: Path, draft: Plan) -> Iterator[str]:
    text = read_bytes(run / SOURCE, MOST_BYTES).decode(errors="replace")
    how = _HOW.search(text)
    if how is None or text != source_text(draft, how.group(1)):
        yield f"{SOURCE}: not what the draft plan gives"


def _config(run: Path, draft: Plan) -> Iterator[str]:
    """What the campaign file fixes by itself. Its paths lie outside of the run and are not followed."""
    # Imported here: most runs were made without one.
    import yaml
    from pydantic import ValidationError

    from profile_and_optimize.ops.config import CampaignConfig, first_problem, fixed_by_config, read_yaml
    from profile_and_optimize.workloads.suites import bare_points

    try:
        fixed = fixed_by_config(CampaignConfig(**read_yaml(read_bytes(run / CONFIG, MOST_BYTES))))
    except (ValidationError, TypeError) as e:
        yield f"{CONFIG}: cannot be read as a campaign: {first_problem(e)[:200]}"
        return
    except (yaml.YAMLError, ValueError, WrongUse) as e:
        yield f"{CONFIG}: cannot be read as a campaign: {str(e).splitlines()[0][:200]}"
        return
    # Where its data was found, and what it was, lies outside of the file.
    bare = replace(draft, points=bare_points(draft.points))
    differ = [f.name for f in fields(Plan) if f.name in fixed and fixed[f.name] != getattr(bare, f.name)]
    if differ:
        yield f"draft.json: {', '.join(differ)} not as {CONFIG} says"
