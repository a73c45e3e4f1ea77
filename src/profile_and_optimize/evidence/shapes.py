"""What a credential looks like, wherever it stands: shapes that have one meaning, and the words that announce one.

Each pattern has as its first group what stays readable; the rest of the match is covered.
"""

from __future__ import annotations

import base64
import binascii
import re
from collections.abc import Callable, Iterator

from profile_and_optimize.core.secret_names import Says, says
from profile_and_optimize.evidence.lookalikes import needs, plainly

# A quote, which may be escaped itself where one JSON text stands in another.
_Q = r"\\*[\"'`]?"
# What a credential is made of: it ends at white space and punctuation. JSON may write a slash as \/.
_V = r"(?:\\+/|[^\s\"'`\\,;&<>])"
# A value; a bare number ends where JSON goes on. Looked at ahead, so that a name within a value is met as well.
_VALUE = rf"(?=(?P<value>\d{{7,}}(?=[\s,}}\]])|{_V}{{4,}}))"
_END = r"(?:\r?\n|\\+r\\+n|\\+n)"
Span = tuple[int, int]

# Words of which one has to be in the text, in small letters, for it to be worth a look; and the pattern.
_SHAPES = tuple((tuple(words.split()), re.compile(pattern)) for words, pattern in (
    # PEM: to its end, or as far as it goes on; real line breaks or those of JSON and of a shell.
    ("-----begin",
     r"()-----BEGIN (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----(?:(?s:.{0,20000}?)-----END (?:[A-Z0-9]+ )*PRIVATE KEY(?: BLOCK)?-----"
    rf"|(?:[A-Za-z0-9+/=:,. -]|{_END}){{0,20000}})"),
    ("authorization",
     rf"(?i)\b((?:proxy-)?authorization{_Q}\s*[:=]\s*(?:\[\s*(?=\\*[\"']))?{_Q}(?:bearer|basic|digest|token|negotiate|apikey|aws4-hmac-sha256)?\s*)"
    rf"{_V}+(?:[ ,]+[A-Za-z-]+=[^\s\"'\\]+)*"),
    ("bearer", r"(?i)\b(bearer(?:\s+|%20|\+))(?:\\+/|[a-z0-9._~+/=-]){8,}"),
    ("cookie", rf"(?i)\b((?:set-)?cookie2?{_Q}\s*:\s*(?:\[\s*(?=\\*[\"']))?{_Q})[^\s\"'\\=;]+=[^\r\n\"'\\]+"),
    ("",
     r"\b(hf_|api_org_|gh[opsur]_|github_pat_|gl(?:pat|dt|rt|cbt|ptt|ft|soat|agent|imt)-|nvapi-|gsk_|xox[a-z]-|xapp-|npm_|pypi-|dckr_[a-z]{3}_|r8_"
    r"|shp(?:at|ca|pa|ss)_|(?:sk|rk|pk)_(?:live|test)_|whsec_|lin_api_|dop_v1_|doo_v1_|figd_|PMAK-|tskey-|hvs\.|hvb\.|GOCSPX-|ya29\.|ATATT|ATCTT"
    r"|ATBB|AGE-SECRET-KEY-|sq0[a-z]{3}-|NRAK-|glsa_|sntrys_|sntryu_|tfp_|pplx-|xai-|csk-|ntn_)"
    r"(?=[A-Za-z_.=-]{0,80}[A-Z0-9])[A-Za-z0-9_.=-]{8,}"),
    ("sk-", r"\b(sk-)[A-Za-z0-9_-]{8,}"),
    ("", r"\b(A(?:KI|SI|ID|RO|GP|NP)A|AIza)[A-Za-z0-9_-]{12,}"),
    ("sg.", r"\b(SG\.)[A-Za-z0-9_-]{16,}\.[A-Za-z0-9_-]{16,}"),
    ("eyj", r"\b(eyJ)[A-Za-z0-9_-]{6,}(?:\.|%2[eE])[A-Za-z0-9_-]{6,}(?:(?:\.|%2[eE])[A-Za-z0-9_-]*){0,3}"),
    # Addresses that are a credential as a whole, or carry one in front of the host or in their query.
    ("hooks.slack", r"(?i)(\bhooks\.slack(?:-gov)?\.com\\*/(?:services|workflows|triggers)\\*/)(?:\\+/|[\w/-])+"),
    ("discord", r"(?i)(\bdiscord(?:app)?\.com\\*/api(?:\\*/v\d+)?\\*/webhooks\\*/)(?:\\+/|[\w/-])+"),
    ("office.com azure.com powerplatform",
     r"(?i)(\b(?:webhook\.office\.com|logic\.azure\.com(?::\d{1,5})?|powerplatform\.com)\\*/)(?:\\+/|[^\s\"'\\<>])+"),
    ("zapier ifttt telegram",
     r"(?i)(\b(?:hooks\.zapier\.com\\*/hooks\\*/catch|maker\.ifttt\.com\\*/trigger|api\.telegram\.org)\\*/)(?:\\+/|[^\s\"'\\<>])+"),
    ("hook", r"(?i)(/(?:web)?hooks?\\*/)(?=[\w/\\-]{0,64}\d)(?:\\+/|[\w/-]){16,}"),
    ("://", r"(?<=://)([^/@\s:\"'<>]{0,256}:)(?!\d+/)[^\s@\"'<>]{1,256}(?=@)"),
    (":\\/\\/", r"(?<=:\\/\\/)([^/@\s:\"'<>]{0,256}:)(?!\d+\\*/)[^\s@\"'<>]{1,256}(?=@)"),
    ("://", r"(?<=://)()[^/@\s:]{6,256}(?=@)"),
    ("",
     r"(?i)([?&;#]|\\u0026|&amp;)(?:sig|signature|key|code|token|access_token|api_?key|pwd|pass|auth"
     r"|x-amz-(?:signature|credential|security-token)|x-goog-(?:signature|credential))"
    r"(?:=|%3d)(?:\\+/|[^\s\"'\\&<>;]){6,}"),
    ("auth", r"(?i)(\bauth\w{0,20}\s*=\s*\(\s*[\"'][^\"'\s]{0,100}[\"']\s*,\s*[\"'])[^\"'\s]{4,}"),
    # Given to a program whose option it is: sshpass -p v, mysql -pv, redis-cli -a v, docker login -p v.
    ("sshpass mysql mariadb mongo redis-cli ldap docker podman nerdctl helm kadmin 7z",
     r"(?i)(\b(?:sshpass|mysql\w*|mariadb\w*|mongo\w*|redis-cli|ldap\w+|(?:docker|podman|nerdctl)\s+login|helm\s+registry\s+login|kadmin|7z)\b"
     r"[^\n|;&]{0,300}?\s(?:-p|-a|-w|--pass)[\s=]*[\"']?)(?![\s-])[^\s\"']{4,}"),
    # The user's part of an address without its scheme, and the users that Git hosts have for tokens.
    ("oauth2: token: x-token-auth:", r"(?i)(\b(?:oauth2|x-access-token|gitlab-ci-token|x-token-auth|x-oauth-basic):)[^\s@\"'/]{8,}"),
    ("@", r"(?<![\w/:.-])((?!(?:mailto|sip|sips|acct|xmpp|npm|file):)[A-Za-z][\w.+-]{0,63}:)"
     r"(?=[^\s@/:\"']{0,255}\d)(?=[^\s@/:\"']{0,255}[A-Za-z])"
     r"[^\s@/:\"'<>,;]{8,256}(?=@[\w-]+(?:\.[\w-]+)*\.[A-Za-z]{2,})"),
    ("curl", r"(?i)(\bcurl\b[^\n]{0,300}?\s(?:-u|--user|--proxy-user)[\s=]+[\"']?)[^\s:\"']+:[^\s\"']+"),
))  # fmt: skip
# A name and its value: NAME=v, "name": "v", name: v, NAME%3Dv, --name v and ["--name", "v"].
_NAMED = re.compile(
    rf"(?P<name>(?<![\w.-])(?:--?)?_{{0,4}}[A-Za-z][\w.-]{{1,80}}?){_Q}\s*(?P<sign>[:=]|%3[aAdD]|=>|:=)\s*(?P<open>(?:\[\s*(?=\\*[\"']))?{_Q})"
    rf"{_VALUE}"
)
_OPTION = re.compile(rf"(?P<name>(?<![\w-])--?[A-Za-z][\w-]{{1,80}})(?P<open>{_Q}\s*,\s*{_Q}|{_Q}\s+{_Q})(?!-){_VALUE}")
# Said in words: `password is v`, `token v`; and as an element of XML.
_SAID = re.compile(
    r"(?i:(?<![a-z])(?P<word>pass(?:word|wd|phrase)?|pwd|secret|(?:api|access)[ _-]?key|tkn|token|pat))"
    rf"(?:\s+(?:is|was))?\s+{_Q}{_VALUE}"
)
_ELEMENT = re.compile(rf"<(?P<name>[A-Za-z][\w.-]{{1,80}})(?P<open>)>\s*{_VALUE}")
_HEADER = re.compile(
    rf"(?i)(?P<name>\bx-[a-z-]{{2,40}}){_Q}(?P<sign>\s*[:,]\s*)(?P<open>(?:\[\s*(?=\\*[\"']))?{_Q}){_VALUE}"
)
# `-p` is a port and a path more often than a password: only what is as random as one is taken for it.
_SHORT = re.compile(
    rf"(?<![\w-])-[pPaw](?:{_Q}\s*,\s*{_Q}|\s*=\s*{_Q}|\s+{_Q})(?P<value>[A-Za-z0-9+_!#$%^*~-]{{10,256}})(?![\w./:=@-])"
)
_BLOB = re.compile(r"(?<![A-Za-z0-9+/_=-])[A-Za-z0-9+/_-]{20,8192}={0,2}(?![A-Za-z0-9+/_-])")
_COUNT = re.compile(r"-?\d{1,6}(?:\.\d+)?|true|false|null|none|nan", re.I)
_WORDLIKE = re.compile(r"[A-Za-z]+(?:[-_.][A-Za-z]+)*[.:!?]?")
# What stands for a credential and is none.
_STANDS_FOR = re.compile(
    r"bearer|basic|digest|negotiate|\$\{?\w+\}?|\[redacted\]?|\*+|<[\w -]+>?|%\w+%|os\.environ\S*", re.I
)
LEAST_SURE, LEAST_MAYBE = 6, 6


def find(text: str) -> Iterator[Span]:
    """Where credentials stand in a text, in no order and perhaps one over another; also where they are spelled in letters that
    only look like theirs, with signs between them that do not show, or in escapes."""
    yield from _find(text)
    if needs(text):
        meant, places = plainly(text)
        yield from ((places[begin], places[end]) for begin, end in _find(meant) if begin < end)


def _find(text: str) -> Iterator[Span]:
    low = text.lower()
    for words, pattern in _SHAPES:
        if not words or any(w in low for w in words):
            for m in pattern.finditer(text):
                yield m.end(1), m.end()
    for pattern in (_NAMED, _HEADER, _OPTION, _ELEMENT):
        for m in pattern.finditer(text):
            if _is_value(m["name"], m["value"], quoted=bool(m["open"].strip("\\ \t,["))):
                yield m.start("value"), m.end("value")
    for m in _SAID.finditer(text):
        if _is_random(m["value"], mixed=m["word"].lower() in ("token", "pat", "pass")):
            yield m.start("value"), m.end("value")
    for m in _SHORT.finditer(text):
        if _is_random(m["value"], mixed=True):
            yield m.start("value"), m.end("value")
    for m in _BLOB.finditer(text):
        if _hides(m.group()):
            yield m.span()


def _is_value(name: str, value: str, *, quoted: bool) -> bool:
    """Is this what the name says? Of a name that may mean something else, only what no word or count is."""
    told = says(name)
    if told is Says.NOTHING or _COUNT.fullmatch(value) or _STANDS_FOR.fullmatch(value.rstrip("})];.")):
        return False
    if told is Says.SURELY:
        return len(value) >= LEAST_SURE
    # A question or a pass of training is said of in words; a credential has a digit or a sign in it, or is a long word.
    word = _WORDLIKE.fullmatch(value) is not None and len(value) < (12 if quoted else 20)
    return len(value) >= LEAST_MAYBE and not word


def _is_random(value: str, *, mixed: bool) -> bool:
    """Of what stands in a sentence: letters and digits together, and both cases after a word that is said of other things."""
    letters = [c for c in value if c.isalpha()]
    cases = any(c.isupper() for c in letters) and any(c.islower() for c in letters)
    return (
        len(value) >= (10 if mixed else 8) and any(c.isdigit() for c in value) and (cases if mixed else bool(letters))
    )


def _hides(blob: str) -> bool:
    """Does base64 hold something that is a credential by its shape?"""
    if not any(c.isdigit() for c in blob) and not any(c.islower() for c in blob):
        return False
    padded = blob.rstrip("=").replace("-", "+").replace("_", "/")
    try:
        inner = base64.b64decode(padded + "=" * (-len(padded) % 4), validate=True).decode("ascii")
    except (binascii.Error, ValueError):
        return False
    return (inner.isprintable() is False and "-----BEGIN" in inner) or (
        inner.isprintable() and any(p.search(inner) for _, p in _SHAPES)
    )


def cover(text: str, how: Callable[[str], str]) -> str:
    """`text` with every credential replaced by `how` of it; spans that touch are one."""
    spans = sorted(s for s in find(text) if s[0] < s[1])
    out, at = list[str](), 0
    for begin, end in _joined(spans):
        out += [text[at:begin], how(text[begin:end])]
        at = end
    return "".join([*out, text[at:]])


def _joined(spans: list[Span]) -> list[Span]:
    joined: list[Span] = []
    for begin, end in spans:
        if joined and begin <= joined[-1][1]:
            joined[-1] = (joined[-1][0], max(end, joined[-1][1]))
        else:
            joined.append((begin, end))
    return joined
