"""Cuts out of an upstream's words whose account it is: ids of organizations, projects and the like. Pure.

The rest of the sentence goes out: clients fall back on its words, and people read them.
"""

from __future__ import annotations

import re

CUT = "***"

_UUID = r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"
_OWN_SHAPE = r"(?:org|proj|wrkspc|acct)[-_](?=[a-z]*\d)[a-z0-9]{8,}"
_KINDS = r"(?:org(?:ani[sz]ation)?|workspace|account|tenant|project|subscription|consumer)s?"
#: Between a kind and its id: what says that it is one, quotes, and what JSON escapes them with.
_IS = r"(?:[ _-]?(?:id|uuid|number|name))?[\s\"'`\\:=#(]{1,6}"

#: Ids that are told to be an account's, by a word before them or by their shape. None takes a quote or a backslash
#: along: what is cut out of JSON leaves JSON.
_TOLD = re.compile(
    rf"\barn:aws[\w-]*:[\w:/.*@+=-]*[\w*/]"
    rf"|[\w.+-]{{1,100}}@[\w.-]{{0,100}}gserviceaccount\.com"
    rf"|\b(?P<path>projects/|organizations/|folders/|billingAccounts/)[\w.:~-]+"
    rf"|\b(?P<named>{_KINDS}{_IS})(?:{_UUID}|\d{{5,}}\b|{_OWN_SHAPE})"
    # A project has a name, which is told from a word by a digit, a hyphen, or what is around it.
    rf"|\b(?P<project>project(?:[ _-]?(?:id|name))?(?:\s{{1,3}}(?:\\{{0,3}}[\"'`])?|\s?[=:]\s?(?:\\{{0,3}}[\"'`])?))"
    rf"(?=[a-z]*[\d-])[a-z][a-z0-9-]{{4,28}}[a-z0-9]\b"
    rf"|\b(?P<quoted>project\s{{1,3}}\\{{0,3}}[\"'`])[a-z][a-z0-9-]{{4,28}}[a-z0-9](?=\\{{0,3}}[\"'`])"
    rf"|\b{_OWN_SHAPE}",
    re.IGNORECASE,
)
#: What nearly always is one.
_BARE = re.compile(rf"\b(?:{_UUID}|\d{{12}})\b", re.IGNORECASE)
#: … unless it is said to be of a request, or of what the client itself brought.
_OTHER_IDS = re.compile(r"(?:request|trace|correlation|message|tool_?use|file|container|session)[ _-]?id\W{0,6}$", re.I)


def without_accounts(text: str, *, bare: bool = True) -> str:
    """*text* with ``***`` in the place of each id. *bare*: also what may be one without a word that says so."""
    text = _TOLD.sub(_cut, text)
    return _BARE.sub(_cut_bare, text) if bare else text


def _cut(found: re.Match[str]) -> str:
    return f"{found['path'] or found['named'] or found['project'] or found['quoted'] or ''}{CUT}"


def _cut_bare(found: re.Match[str]) -> str:
    before = found.string[max(0, found.start() - 30) : found.start()]
    return found[0] if _OTHER_IDS.search(before) else CUT
