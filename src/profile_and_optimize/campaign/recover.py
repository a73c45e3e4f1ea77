"""Files that reached the disk just before a kill, but not the journal: they are whole, so they are entered."""

from __future__ import annotations

import re
from collections import Counter

from profile_and_optimize.evidence.folder import RunFolder

# Path pattern to (producer, inputs), as the writer of each would have entered it.
_WRITTEN_BY = (
    (r"SOURCE\.md|config\.yaml", "campaign_init", ()),
    (r"draft\.json", "campaign_init", ()),
    (r"aa_history\.json", "campaign", ()),
    (r"earlier\.json", "campaign", ("draft.json",)),
    (r"plan\.json", "campaign", ("draft.json", "calibration.json")),
    (r"finalists\.json", "campaign", ("plan.json",)),
    (
        r"calibration\.json|cells/[^/]+/(admission|commands/serve)\.json|cells/[^/]+/raw/[bpr]\d[^/]+\.raw\.json",
        "campaign",
        (),
    ),
    (r"cells/[^/]+/raw/accuracy\.json", "evals exact_match", ()),
    (r"cells/[^/]+/raw/checkpoint\.json", "campaign", ()),
    (r"quantize/[^/]+\.json", "optimize", ()),
    (r"cells/[^/]+/raw/[bpr]\d[^/]+\.json", "campaign", ("plan.json",)),
    (r"cells/[^/]+/raw/log-[^/]+\.txt", "engine", ()),
)


def adopt_orphans(folder: RunFolder) -> int:
    """Enter every evidence file that the journal does not know; how many there were. Finished work is not done again."""
    known = {e.data["path"] for e in folder.journal.events if e.kind == "wrote"}
    found = 0
    for path in sorted(p for p in folder.path.rglob("*") if p.is_file() and not p.is_symlink()):
        rel = path.relative_to(folder.path).as_posix()
        writer = next(((who, inputs) for pattern, who, inputs in _WRITTEN_BY if re.fullmatch(pattern, rel)), None)
        if rel not in known and writer is not None:
            folder.write(rel, path.read_bytes(), producer=writer[0], inputs=writer[1])
            found += 1
    return found


def note_interrupted(folder: RunFolder) -> None:
    """Write down every time that a trial was begun and left without records: whoever broke it off may have seen it."""
    seen: dict[str, Counter[str]] = {"trial_began": Counter(), "wrote": Counter(), "interrupted": Counter()}
    for e in folder.journal.events:
        if e.kind in seen:
            seen[e.kind][e.data["path"]] += 1
    for path, times in seen["trial_began"].items():
        for _ in range(times - seen["wrote"][path] - seen["interrupted"][path]):
            folder.event("interrupted", path=path)
