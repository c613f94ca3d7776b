"""Cuts out of an upstream's words whose account it is: ids of organizations, projects and the like. Pure.

The rest of the sentence goes out: clients fall back on its words, and people read them.
"""

from __future__ import annotations

import re

CUT = b"***"

_UUID = rb"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OWN_SHAPE = rb"(?:org|proj|wrkspc|acct)[-_](?=[a-z]*\d)[a-z0-9]{8,}"
_PROJECT_NAME = rb"[a-z][a-z0-9-]{4,28}[a-z0-9]"
#: A quote, and what JSON escapes it with.
_QUOTE = rb"\\{0,3}[\"'`]"


def _rule(cues: str, stays: bytes, id: bytes) -> tuple[list[bytes], re.Pattern[bytes]]:
    """What is cut: *id*, after what *stays*. Looked for only where one of the *cues* is. All in lower case."""
    return [cue.encode() for cue in cues.split()], re.compile(rb"(?P<stays>" + stays + rb")" + id)


#: Ids that are told to be an account's, by a word before them or by their shape. None takes a quote or a backslash
#: along: what is cut out of JSON leaves JSON.
_TOLD = (
    _rule("arn:aws", rb"\b", rb"arn:aws[\w-]*:[\w:/.*@+=-]*[\w*/]"),
    _rule("gserviceaccount", rb"(?<![\w.+-])", rb"[\w.+-]{1,100}@[\w.-]{0,100}gserviceaccount\.com"),
    _rule(
        "projects/ organizations/ folders/ billingaccounts/",
        rb"\b(?:projects/|organizations/|folders/|billingaccounts/)",
        rb"[\w.:~-]+",
    ),
    _rule(
        "org workspace account tenant project subscription consumer",
        rb"\b(?:org(?:ani[sz]ation)?|workspace|account|tenant|project|subscription|consumer)s?"
        rb"(?:[ _-]?(?:id|uuid|number|name))?[\s\"'`\\:=#(]{1,6}",
        rb"(?:" + _UUID + rb"|\d{5,}\b|" + _OWN_SHAPE + rb")",
    ),
    # A project has a name, which is told from a word by a digit, a hyphen, or what is around it.
    _rule(
        "project",
        rb"\bproject(?:[ _-]?(?:id|name))?(?:\s{1,3}|\s?[=:]\s?)(?:" + _QUOTE + rb")?",
        rb"(?=[a-z]*[\d-])" + _PROJECT_NAME + rb"\b",
    ),
    _rule("project", rb"\bproject\s{1,3}" + _QUOTE, _PROJECT_NAME + rb"(?=" + _QUOTE + rb")"),
    _rule("org- org_ proj- proj_ wrkspc acct", rb"\b", _OWN_SHAPE),
)
#: What nearly always is one …
_BARE = re.compile(rb"\b(?P<stays>)(?:" + _UUID + rb"|\d{12})\b")
#: … unless it is said to be of a request, or of what the client itself brought.
_OTHER_IDS = re.compile(rb"(?:request|trace|correlation|message|tool_?use|file|container|session)[ _-]?id\W{0,6}$")


def without_accounts(text: str, *, bare: bool = True) -> str:
    """Return *text* with ``***`` in the place of each id. *bare*: also of what may be one, though no word says so."""
    return without_accounts_data(text.encode("utf-8", "surrogatepass"), bare=bare).decode("utf-8", "surrogatepass")


def without_accounts_data(data: bytes, *, bare: bool = True) -> bytes:
    """Return *data*, in any encoding that holds ASCII, with ``***`` in the place of each id. JSON stays JSON."""
    for cues, rule in _TOLD:
        lower = data.lower()
        if any(cue in lower for cue in cues):
            data = _cut(data, list(rule.finditer(lower)))
    if not bare:
        return data
    lower = data.lower()
    found = [
        each for each in _BARE.finditer(lower) if not _OTHER_IDS.search(lower[max(0, each.start() - 30) : each.start()])
    ]
    return _cut(data, found)


def _cut(data: bytes, found: list[re.Match[bytes]]) -> bytes:
    parts: list[bytes] = []
    done = 0
    for each in found:
        parts += (data[done : each.end("stays")], CUT)
        done = each.end()
    return b"".join((*parts, data[done:])) if found else data
