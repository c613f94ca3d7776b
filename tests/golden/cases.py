"""The cases of a folder: what each says, and how what the daemon mints is written in it. README.md tells the format."""

from __future__ import annotations

import base64
import json
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.golden.families import FAMILIES
from tests.golden.families.family import Family

FOLDER = Path(__file__).parent

HELLO = {"model": "claude-opus-5-5", "max_tokens": 1024, "messages": [{"role": "user", "content": "hi"}]}
"""The request of a case that has none: enough to be answered."""

#: What a case of a folder has that does not say it, where that is not as Gemini's.

#: The forms of what the daemon makes up, by the placeholder's first word.
FORMS = {
    "msg": r"msg_[A-Za-z0-9]{24}",
    "toolu": r"toolu_[A-Za-z0-9]{24}",
    "srvtoolu": r"cpxd1\.[a-z-]+\.[A-Za-z0-9]{24}",
    "nine": r"[A-Za-z0-9]{9}",
    "name": r"[A-Za-z_][A-Za-z0-9_.:-]{0,63}",
}
_PLACEHOLDER = re.compile(r"<(msg|toolu|srvtoolu|nine|name)(_[0-9]+)?>")
_SIGNATURE = re.compile(r"<sig:([A-Za-z0-9+/_=-]*)>")
_WORDS = re.compile(r"<words(?::(.*))?>", re.DOTALL)


@dataclass(frozen=True)
class Case:
    """One file. Members that it leaves out are None or empty."""

    name: str
    about: str
    folder: str = "gemini"
    model: str = "gemini-3-pro-preview"
    kind: str = "gemini"
    version: str = "2023-06-01"
    request: dict[str, Any] = field(default_factory=lambda: HELLO)
    terms: dict[str, Any] = field(default_factory=dict)
    remembered: dict[str, str] = field(default_factory=dict)
    upstream_request: dict[str, Any] | None = None
    unsupported: str | None = None
    empty: bool = False
    warnings: list[str] = field(default_factory=list)
    own_words: list[str] = field(default_factory=list)
    lost: list[str] = field(default_factory=list)
    upstream_answer: list[dict[str, Any]] | None = None
    upstream_bytes: str | None = None
    last: bool = False
    answer: dict[str, Any] | None = None
    error: str | None = None
    kept: dict[str, str] = field(default_factory=dict)

    @property
    def family(self) -> Family:
        """Whose types and facts it is judged by."""
        return FAMILIES[self.folder]

    @property
    def place(self) -> str:
        """By what the judges know what is refused: the provider's kind, or the model."""
        return self.model if self.family.judges_by_model else self.kind

    @property
    def body(self) -> bytes:
        """The client's body."""
        return json.dumps(self.filled(self.request), ensure_ascii=False).encode()

    @property
    def signatures(self) -> set[str]:
        """All that the upstream may be shown beside those that the client brings back."""
        return {*self.remembered.values(), *self.family.own_signatures}

    def filled(self, value: Any) -> Any:
        """What a client sends for *value*: each ``<sig:…>`` and ``{"<minted>": …}`` as the daemon had minted it."""
        return filled(value, self.family.mark)

    def matched(self, actual: Any, expected: Any, seen: dict[str, str]) -> Any:
        """*expected*, to be compared with *actual*: see :func:`matched`."""
        return matched(actual, self.filled(expected), seen)


def cases(folder: str) -> Iterator[Case]:
    """Every case there, by name. A member that no case has is a mistake, and raises TypeError."""
    for path in sorted((FOLDER / folder).glob("*.json")):
        defaults = FAMILIES[folder].defaults
        yield Case(path.stem, folder=folder, **{**defaults, **json.loads(path.read_bytes())})


def add_tests(to: type, folder: str, wants: Callable[[Case], bool], test: Callable[[Any, Case], None]) -> None:
    """Give a TestCase one method for each case that *wants* it, named after the file and told about by its sentence."""
    for case in cases(folder):
        if wants(case):

            def method(self: Any, case: Case = case) -> None:
                test(self, case)

            method.__name__ = f"test_{case.name}"
            method.__qualname__ = f"{to.__qualname__}.{method.__name__}"
            method.__doc__ = case.about
            setattr(to, method.__name__, method)


def payload(signature: str) -> bytes:
    """The bytes of a signature: base64 of either alphabet."""
    return base64.urlsafe_b64decode(signature.replace("+", "-").replace("/", "_") + "=" * (-len(signature) % 4))


def minted(signature: str, mark: str) -> str:
    """How a signature stands in a thinking block; *mark*: the family's."""
    return mark + base64.urlsafe_b64encode(payload(signature)).decode().rstrip("=")


def filled(value: Any, mark: str) -> Any:
    """*value* with each ``<sig:…>`` and ``{"<minted>": …}`` as the daemon minted it for the family of *mark*."""
    if isinstance(value, str):
        found = _SIGNATURE.fullmatch(value)
        return minted(found[1], mark) if found else value
    if isinstance(value, dict) and "<minted>" in value:
        record = json.dumps(value["<minted>"], ensure_ascii=False, separators=(",", ":"))
        return minted(base64.b64encode(record.encode()).decode(), mark)
    if isinstance(value, dict):
        return {key: filled(member, mark) for key, member in value.items()}
    return [filled(member, mark) for member in value] if isinstance(value, list) else value


def matched(actual: Any, expected: Any, seen: dict[str, str]) -> Any:
    """*expected* with its placeholders filled from *actual* where their form fits, to be compared with it.

    A placeholder stands for one string wherever it occurs: *seen* has what the others stand for.
    """
    if isinstance(expected, str) and isinstance(actual, str) and (found := _PLACEHOLDER.fullmatch(expected)):
        fits = re.fullmatch(FORMS[found[1]], actual)
        fresh = expected not in seen and actual not in seen.values()
        return seen.setdefault(expected, actual) if fits and (fresh or expected in seen) else expected
    if isinstance(expected, str) and isinstance(actual, str) and (found := _WORDS.fullmatch(expected)):
        return actual if actual.strip() and (found[1] or "") in actual else expected
    if expected == "<number>" and isinstance(actual, int) and not isinstance(actual, bool):
        return actual
    if isinstance(expected, dict) and isinstance(actual, dict):
        return {key: matched(actual.get(key), member, seen) for key, member in expected.items()}
    if isinstance(expected, list) and isinstance(actual, list) and len(expected) == len(actual):
        return [matched(a, e, seen) for a, e in zip(actual, expected, strict=True)]
    return expected
