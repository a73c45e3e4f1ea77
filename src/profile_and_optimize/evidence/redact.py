"""Secrets never enter a run: text is redacted before it is written, the environment is captured by allowlist."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from urllib.parse import quote

from profile_and_optimize.core.secret_names import is_secret_name
from profile_and_optimize.evidence import shapes

HIDDEN = "[redacted]"
SHORTEST = 8
SHORTEST_BASE64 = 16
_LETTER = re.compile(r"[^\r\n]")
ALLOWED_ENV = (
    "OMP_NUM_THREADS", "VLLM_CPU_OMP_THREADS_BIND", "VLLM_CPU_KVCACHE_SPACE", "VLLM_USE_AOT_COMPILE", "HF_HUB_OFFLINE",
    "CUDA_VISIBLE_DEVICES",
    "LD_PRELOAD", "VLLM_NO_USAGE_STATS", "VLLM_CPU_SGL_KERNEL", "TORCHINDUCTOR_CACHE_DIR",
    "VLLM_CACHE_ROOT",
)  # fmt: skip


def redact(text: str, secrets: Iterable[str] = ()) -> str:
    """`text` without `secrets` and without anything that looks like a credential; the words before it stay readable."""
    return _covered(text, secrets, lambda part: HIDDEN)


def starred(text: str, secrets: Iterable[str] = ()) -> str:
    """As `redact`, at the same length and with JSON still JSON, so that framing and records still read."""
    return _covered(text, secrets, _stars)


def _stars(part: str) -> str:
    return "1" * len(part) if part.isdecimal() else _LETTER.sub("*", part)


def without(text: str, secrets: Iterable[str], cover: Callable[[str], str] = lambda part: HIDDEN) -> str:
    """`text` without just these, given longest first."""
    for secret in secrets:
        text = text.replace(secret, cover(secret))
    return text


def _covered(text: str, secrets: Iterable[str], cover: Callable[[str], str]) -> str:
    return shapes.cover(without(text, secrets, cover), cover)


# The shell's words for the folder it is in, and the one before: `pwd` is a password everywhere else.
FOLDERS = frozenset({"PWD", "OLDPWD"})


def known_secrets(env: Mapping[str, str]) -> tuple[str, ...]:
    """Credentials that the environment holds, by the names of its variables, in every spelling; longest first.

    Plain words and numbers are left out ("placeholder", 12345678): text would be garbled for nothing.
    """
    values = (v for k, v in env.items() if is_secret_name(k) and k not in FOLDERS)
    return spellings(v for v in values if len(v) >= SHORTEST and not v.isalpha() and not v.isdecimal())


def spellings(values: Iterable[str]) -> tuple[str, ...]:
    """Each value as it is, as JSON writes it, as a URL does, within base64; longest first, so that no rest of one is left
    standing."""
    found: set[str] = set()
    for value in values:
        quoted = {json.dumps(value)[1:-1], json.dumps(value, ensure_ascii=False)[1:-1]}
        found |= {value, quote(value), quote(value, safe=""), *quoted, *(q.replace("/", "\\/") for q in quoted)}
        found |= set(_within_base64(value))
    return tuple(sorted(found, key=lambda s: (-len(s), s)))


def _within_base64(value: str) -> Iterator[str]:
    """What base64 makes of a value whatever stands before and after it: the letters that depend on it alone."""
    for before in range(3):
        data = b"\0" * before + value.encode("utf-8", "replace")
        text = base64.b64encode(data).decode()[(before * 8 + 5) // 6 : len(data) * 8 // 6]
        if len(text) >= SHORTEST_BASE64:
            yield text
            yield text.replace("+", "-").replace("/", "_")


def allowed_env(env: Mapping[str, str]) -> dict[str, str]:
    return {k: redact(env[k]) for k in ALLOWED_ENV if k in env}
