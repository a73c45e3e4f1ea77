"""Secrets never enter a run: text is redacted before it is written, the environment is captured by allowlist."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterable, Mapping
from urllib.parse import quote

HIDDEN = "[redacted]"
SHORTEST = 8
# A quote, which may be escaped itself where one JSON text stands in another.
_Q = r"\\*[\"']?"
# What a credential is made of: it ends at white space and punctuation. JSON may write a slash as \/.
_V = r"(?:\\/|[^\s\"'\\,&])"
# Each has what stays readable as its first group.
_PATTERNS = tuple(
    re.compile(pattern)
    for pattern in (
        rf"(?i)\b(authorization{_Q}\s*[:=]\s*{_Q}(?:bearer|basic)?\s*){_V}+",
        r"(?i)\b(bearer\s+)(?:\\/|[a-z0-9._~+/=-]){8,}",
        rf"(?i)((?:api[_-]?key|token|secret|password|passwd|signature){_Q}\s*[:=]\s*(?:\[(?=[\"']))?{_Q})(?!s?\b\d{{1,6}}\b){_V}{{6,}}",
        r"\b(hf_|gh[opsur]_|github_pat_|glpat-|nvapi-|gsk_|xox[abp]-)[A-Za-z0-9_-]{8,}",
        r"\b(sk-)[A-Za-z0-9_-]{8,}",
        r"\b(AKIA|AIza)[A-Za-z0-9_-]{12,}",
        r"\b(eyJ)[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]{6,}\.[A-Za-z0-9_-]*",
        r"(?<=://)([^/@\s:]*:)[^/@\s]+(?=@)",
        r"(?<=://)()[^/@\s:]{6,}(?=@)",
    )
)
ALLOWED_ENV = (
    "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_AOT_COMPILE", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "LD_PRELOAD", "VLLM_NO_USAGE_STATS", "VLLM_CPU_SGL_KERNEL", "TORCHINDUCTOR_CACHE_DIR",
    "VLLM_CACHE_ROOT",
)  # fmt: skip
_SECRET_NAME = re.compile(r"(?i)(api|access|private|auth)[_-]?key|token(?!i[sz])|secret|passw|credential")


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets` and without anything that looks like a credential; the words before it stay readable."""
    return _covered(text, secrets, lambda part: HIDDEN)


def starred(text: str, secrets: Iterable[str] = ()) -> str:
    """As `redact`, at the same length and with JSON still JSON, so that framing and records still read."""
    return _covered(text, secrets, lambda part: "1" * len(part) if part.isdecimal() else "*" * len(part))


def without(text: str, secrets: Iterable[str], cover: Callable[[str], str] = lambda part: HIDDEN) -> str:
    """`text` without just these, given longest first."""
    for secret in secrets:
        text = text.replace(secret, cover(secret))
    return text


def _covered(text: str, secrets: Iterable[str], cover: Callable[[str], str]) -> str:
    text = without(text, secrets, cover)
    for pattern in _PATTERNS:
        text = pattern.sub(lambda m: m.group(1) + cover(m.group(0)[len(m.group(1)) :]), text)
    return text


def known_secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    """Credentials that the environment holds, by the names of its variables, in every spelling; longest first.

    Plain words and numbers are left out ("placeholder", 12345678): text would be garbled for nothing.
    """
    values = (v for k, v in env.items() if _SECRET_NAME.search(k))
    return spellings(v for v in values if len(v) >= SHORTEST and not v.isalpha() and not v.isdecimal())


def spellings(values: Iterable[str]) -> tuple[str, ...]:
    """Each value as it is, as JSON writes it, as a URL does; longest first, so that no rest of one is left standing."""
    found: set[str] = set()
    for value in values:
        quoted = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        found |= {value, quote(value), quote(value, safe=""), *quoted, *(q.replace("/", "\\/") for q in quoted)}
    return tuple(sorted(found, key=lambda s: (-len(s), s)))


def allowed_env(env: Mapping[str, str]) -> dict[str, str]:
    return {k: redact(env[k]) for k in ALLOWED_ENV if k in env}
