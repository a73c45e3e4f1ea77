"""Does a name say that its value is a credential? By its words: `db_pass` and `githubPat` do, `compass` and "
"`max_tokens` do not."""

from __future__ import annotations

import re
from enum import IntEnum
from functools import lru_cache
from itertools import pairwise

from profile_and_optimize.core.names import word_set

_WORD = re.compile(r"[A-Z]+(?![a-z])|[A-Z]?[a-z]+|\d+")
# Words that are said of nothing else, whatever stands beside them.
_SURE = word_set(
    "password passwords passwd pwd passphrase passcode passwort secret secrets secretkey apikey accesskey accountkey "
    "privatekey "
    "sharedaccesskey authkey tkn credential credentials creds authtoken accesstoken refreshtoken bearer authorization mdp"
)
# Written together with what stands before: PGPASSWORD.
_SURE_ENDS = ("password", "passwd", "passphrase", "apikey", "secret", "hftoken", "ghtoken")
# Words that end the name of a credential, and the words before them that make it something else. `key` needs one before it.
_LAST = {
    "pass": word_set("forward backward first second third one two single multi n per prefill decode fusion by bypass "
    "each last"),
    "pat": frozenset(), "pats": frozenset(), "pw": frozenset(), "auth": frozenset(), "cred": frozenset(), "sig": word_set("n"),
    "jwt": frozenset(), "cookie": frozenset(), "cookies": frozenset(), "signature": frozenset(), "otp": frozenset(),
    "sas": frozenset(),
    "token": word_set("pad eos bos unk sep cls mask per stop special first last next new end begin start added image "
    "audio vision video by each output "
        "input prompt completion system user assistant tool draft think thinking inter to time as cached reasoning "
        "decode prefill eot eom "
        "sampled top fill placeholder accepted"),
    "key": word_set("primary foreign sort cache partition public row group kv prefix lookup dict map hash index "
    "unique order join trial point block "
        "sub config dedup request json yaml toml env column no any each the this a object data state weight rotary "
        "query value cell "
        "session routing idempotency translation"),
}  # fmt: skip
# Words that end like one and are none.
_NO_PASS = word_set(
    "pass askpass compass bypass trespass surpass encompass overpass underpass impasse bandpass lowpass highpass multipass"
)
# What may follow such a word without making the name another one: API_KEY_ID, AUTH_HEADER, TOKEN_VALUE.
_TAIL = word_set(
    "value values header headers string str text env var data b64 base id current old new prod dev test live"
)
_NOT_TOKEN_TAIL = word_set("id ids")


class Says(IntEnum):
    """How much a name says of its value."""

    NOTHING = 0
    MAYBE = 1
    SURELY = 2


def words_of(name: str) -> list[str]:
    """Lower-case words of a name, cut at what is no letter or digit and where camelCase turns."""
    return [w.lower() for w in _WORD.findall(name)]


@lru_cache(maxsize=4096)
def says(name: str) -> Says:
    """SURELY for a name with a word that is used for nothing else; MAYBE where its value has to look like one, too."""
    words = [w for w in words_of(name) if not w.isdigit()]
    if any(w in _SURE or w.endswith(_SURE_ENDS) for w in words) or _sure_pair(words):
        return Says.SURELY
    while len(words) > 1 and words[-1] in _TAIL and not (words[-2] == "token" and words[-1] in _NOT_TOKEN_TAIL):
        words = words[:-1]
    if words and words[-1].endswith("pass") and words[-1] not in _NO_PASS:
        words[-1] = "pass"
    if not words or words[-1] not in _LAST:
        return Says.NOTHING
    last, before = words[-1], words[-2:-1]
    if before and before[0] in _LAST[last]:
        return Says.NOTHING
    return Says.NOTHING if last == "key" and not before else Says.MAYBE


def is_secret_name(name: str) -> bool:
    """For names of variables and options, whose values are not looked at."""
    return says(name) is not Says.NOTHING


def _sure_pair(words: list[str]) -> bool:
    return not _PAIRS.isdisjoint(pairwise(words))


_BEFORE_KEY = word_set("api access account private auth secret signing encryption master shared storage subscription")
_BEFORE_TOKEN = word_set("auth access refresh bearer session api id secret hf github gitlab slack bot")
_PAIRS = (
    frozenset((first, "key") for first in _BEFORE_KEY)
    | frozenset((first, "token") for first in _BEFORE_TOKEN)
    | {("pass", "word")}
)
