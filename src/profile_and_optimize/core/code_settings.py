"""Settings that bring code into a server: one class, told by name and by value, refused unless they are named one by one.

Pure: the tables are in `code_flags`, `plain_flags` and `code_names`. Whoever starts a server hands in what was allowed
(`Allowance`); nothing in a file can allow anything.
"""

from __future__ import annotations

import json
import re
import unicodedata
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

from profile_and_optimize.core import code_flags, code_names
from profile_and_optimize.core.argv import given, option_name
from profile_and_optimize.core.cell import Arm
from profile_and_optimize.core.errors import WrongUse
from profile_and_optimize.core.names import word_set
from profile_and_optimize.core.plain_flags import PLAIN_FLAGS
from profile_and_optimize.core.plan import Plan

ALLOW_FLAG = "--allow-code"
COMMAND_LINE = "the command line"
EVERY_ARM = "every arm"
MOST_SHOWN = 200
# What would be a general yes.
_GENERAL = word_set("all any yes true 1 everything")
_PLACE = re.compile(r"(?:[a-z]+:)?(?:/|~|\.\.?/|[A-Za-z]:\\)|.*:[/~]", re.S)


@dataclass(frozen=True, slots=True)
class CodeSetting:
    """One setting of the class. `where` is the arm's id or EVERY_ARM, `name` what an allowance has to name, such as
    LD_PRELOAD or --middleware."""

    where: str
    name: str
    value: str
    why: str

    @property
    def shown(self) -> str:
        """As `words`, each on one line whatever its value holds."""
        return " ".join(self.words.split())

    @property
    def words(self) -> str:
        value = self.value if len(self.value) <= MOST_SHOWN else self.value[:MOST_SHOWN] + "..."
        return f"{self.where}: {self.name}" + (f"={value}" if value else "")


@dataclass(frozen=True, slots=True)
class Allowance:
    """Names that may bring code, and who said so. There is no name for all."""

    names: frozenset[str] = frozenset()
    by: str = COMMAND_LINE

    def covers(self, setting: CodeSetting) -> bool:
        return plain_name(setting.name) in {plain_name(n) for n in self.names}


NOTHING = Allowance()


def allowance_of(text: str | None, by: str = COMMAND_LINE) -> Allowance:
    """What NAME,NAME of an option allows. Raises WrongUse for a general yes and for what is no name."""
    names = [n.strip() for n in (text or "").split(",") if n.strip()]
    for name in names:
        if name.lower().strip("-") in _GENERAL or not re.fullmatch(r"[\w./ -]+", name):
            raise WrongUse(
                f"{name[:40]!r} is not the name of one setting", where=ALLOW_FLAG,
                next=f"name each setting that may bring code: {ALLOW_FLAG} LD_PRELOAD,--middleware",
            )  # fmt: skip
    return Allowance(frozenset(names), by)


def plain_name(name: str) -> str:
    """One spelling of a name: options without dashes in front and underscores, a variable in upper case."""
    if name.startswith("--") or "-" in name:
        return option_name(name)
    return name if "." in name or "/" in name else name.upper().replace("-", "_")


def code_settings(of: Arm | Plan) -> tuple[CodeSetting, ...]:
    """Every setting of an arm, or of all arms of a plan and of what they share, that brings code."""
    if isinstance(of, Arm):
        return bring_code(of.flags, of.env, of.id)
    shared = bring_code(of.common_flags, of.common_env, EVERY_ARM)
    return (*shared, *(s for arm in of.all_arms for s in code_settings(arm)))


def refuse_code(settings: Sequence[CodeSetting], allowed: Allowance, next_step: str = "") -> None:
    """Raises WrongUse naming each setting that `allowed` does not name, why it is of the class, and how to allow it."""
    open_ones = [s for s in settings if not allowed.covers(s)]
    if not open_ones:
        return
    names = ",".join(dict.fromkeys(s.name for s in open_ones))
    told = "; ".join(f"{s.words} ({s.why})" for s in open_ones[:5])
    more = f"; and {len(open_ones) - 5} more" if len(open_ones) > 5 else ""
    raise WrongUse(
        f"settings that bring code need an acknowledgement that names them: {told}{more}",
        next=next_step or f"remove them, or say that you know them: {ALLOW_FLAG} {names}",
    )


def refuse_idle(settings: Sequence[CodeSetting], allowed: Allowance) -> None:
    """Raises WrongUse for a name on the command line that no setting has: a slip of the pen, or a word for something else. What
    an owner's policy allows is said once for all runs."""
    there = {plain_name(s.name) for s in settings}
    idle = sorted(n for n in allowed.names if plain_name(n) not in there)
    if idle and allowed.by == COMMAND_LINE:
        known = ", ".join(dict.fromkeys(s.name for s in settings)) or "none"
        raise WrongUse(
            f"{idle[0]} allows nothing: no setting of this run that brings code has that name", where=ALLOW_FLAG,
            next=f"there are: {known}",
        )  # fmt: skip


def unallowed(plan: Plan) -> tuple[str, ...]:
    """Names of settings that bring code and of allowances that do not meet, in a plan that keeps who allowed what."""
    if plan.schema < 2:
        return ()
    found = {plain_name(s.name): s.name for s in code_settings(plan)}
    told = {plain_name(n): n for n, _ in plan.code_allowed}
    return tuple(sorted([found[n] for n in {*found} - {*told}] + [told[n] for n in {*told} - {*found}]))


def admitted(plan: Plan, allowed: Allowance) -> Plan:
    """The plan with who allowed which of its settings. Raises WrongUse for one that nobody did."""
    found = code_settings(plan)
    refuse_code(found, allowed)
    refuse_idle(found, allowed)
    return replace(plan, code_allowed=tuple((name, allowed.by) for name in dict.fromkeys(s.name for s in found)))


def refuse_start(plan: Plan, allowed: Allowance) -> None:
    """Before anything of a plan is started: what brings code is allowed now, and was when the plan was made. The plan's own
    word allows nothing, for it is a file. Raises WrongUse."""
    found = code_settings(plan)
    refuse_code(found, allowed)
    strange = [s.name for s in found if plain_name(s.name) not in {plain_name(n) for n, _ in plan.code_allowed}]
    if strange:
        raise WrongUse(
            f"{strange[0]} brings code, and the plan does not say who allowed it", where="draft.json",
            next=f"begin a new campaign with {ALLOW_FLAG} {','.join(dict.fromkeys(strange))}",
        )  # fmt: skip


def bring_code(flags: Sequence[str], env: Iterable[tuple[str, str]], where: str) -> tuple[CodeSetting, ...]:
    """In the order given; a name that is given twice is told once, with its first value that brings code."""
    found = [CodeSetting(where, f"--{n}", v, why) for n, v, why in _flags(flags)]
    found += [CodeSetting(where, n, v, why) for n, v in env if (why := why_name(n, v))]
    first = {s.name: s for s in reversed(found)}
    return tuple(dict.fromkeys(first[s.name] for s in found))


def why_name(name: str, value: str) -> str:
    """Why a variable brings code; "" where it does not."""
    upper = unicodedata.normalize("NFKC", name).strip().upper()
    if upper in code_names.EXACT:
        return code_names.EXACT[upper]
    if upper not in code_names.PLAIN:
        words = upper.split("_")
        hits = (
            *(why for begin, why in code_names.BEGINS.items() if upper.startswith(begin)),
            *(code_names.WORDS[w] for w in words if w in code_names.WORDS),
            *(code_names.ENDINGS[w] for w in words[-1:] if w in code_names.ENDINGS),
        )
        if hits:
            return hits[0]
        if _PLACE.match(value):
            return code_names.FOUND
    return _why_value(value)


def _flags(flags: Sequence[str]) -> Iterator[tuple[str, str, str]]:
    """(option without dashes, its value, why) of what brings code in an argument list."""
    for flag in given(flags):
        if why := _why_option(flag.option, flag.keys, flag.values):
            yield flag.option, " ".join(flag.values), why


def _why_option(option: str, keys: Sequence[str], values: Sequence[str]) -> str:
    if option == f"no-{code_flags.REMOTE}":
        return ""
    if option in code_flags.CODE_FLAGS:
        return code_flags.CODE_FLAGS[option]
    if option in code_flags.VALUE_FLAGS:
        pattern, why = code_flags.VALUE_FLAGS[option]
        return next((why for v in values or ("",) if not pattern.fullmatch(v.strip("'\"").lower())), "")
    if option not in PLAIN_FLAGS and _is_code_word(option):
        return "its name suggests that it loads or runs something"
    allowed = code_flags.KEYED_FLAGS.get(option)
    return _why_json(option, keys, values, allowed)


def _why_json(option: str, keys: Sequence[str], values: Sequence[str], allowed: frozenset[str] | None) -> str:
    """Why a value, which may be JSON, brings code. `keys` lead to it; of the top level only `allowed` ones are plain."""
    text = " ".join(values)
    try:
        value = json.loads(text)
    except ValueError:
        value = text
    for key in reversed(keys):
        value = {key: value}
    if allowed is not None:
        if not isinstance(value, dict):
            # Text that is not JSON is for the engine to read: -O3 and the like are numbers.
            return "" if re.fullmatch(r"\d*", str(value)) else "its value is not JSON, so its keys cannot be judged"
        strange = sorted(k for k in map(str, value) if k.replace("-", "_").casefold() not in allowed)
        if strange:
            return f"its key {strange[0][:40]!r} can name a class, a module or a place to load from"
    return _why_within(value)


def _why_within(value: Any, depth: int = 0) -> str:
    if depth > 40:
        return "it is nested too deeply to be judged"
    if isinstance(value, dict):
        for key, inner in value.items():
            if _is_code_key(str(key)) and inner not in (False, None, "auto"):
                return f"its key {str(key)[:40]!r} names what is loaded or run"
            if why := _why_within(inner, depth + 1):
                return why
        return ""
    if isinstance(value, list):
        return next((why for v in value if (why := _why_within(v, depth + 1))), "")
    return _why_value(value) if isinstance(value, str) else ""


def _why_value(value: str) -> str:
    if value.lstrip().startswith(("{", "[")):
        try:
            return _why_within(json.loads(value))
        except ValueError:
            pass
    if option_name(code_flags.REMOTE) in value.replace("_", "-").casefold():
        return code_flags.CODE_FLAGS[code_flags.REMOTE]
    if code_flags.FILE_OF_CODE.search(value):
        return "its value is a file of code, a library or a template"
    if any(code_flags.DOTTED.fullmatch(word.strip("'\"")) for word in re.split(r"[\s,;=]+", value)):
        return "its value looks like the name of a Python object to import"
    return "its value stands for a class of somebody's own" if value in code_flags.CODE_VALUES else ""


def _is_code_word(option: str) -> bool:
    return f"-{option}".endswith(code_flags.ENDS) or bool(set(option.split("-")) & code_flags.WORDS)


def _is_code_key(key: str) -> bool:
    name = option_name(key)
    return name in code_flags.CODE_KEYS or _is_code_word(name)
