"""A TOML tree into the dataclasses of :mod:`claudeproxyd.config.schema`, by their type hints alone."""

from __future__ import annotations

import difflib
import sys
from collections.abc import Iterable, Mapping
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin, get_type_hints

from claudeproxyd.config.mistakes import SHOWN, Findings
from claudeproxyd.config.places import Place
from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.config.secret import Secret

_BIGGEST = 2**63 - 1
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", NoneType: "nothing"}


class Reader:
    """Turns trees into sections. Every mistake goes to the findings, and reading goes on with a blank in its place."""

    def __init__(self, findings: Findings, environ: Mapping[str, str]) -> None:
        self._findings = findings
        self._environ = environ
        self._told: set[str] = set()
        """The files of which it is said already that all may read them."""

    def table(self, section: type[Any], tree: Mapping[str, Any], place: Place) -> Any:
        """An instance of the dataclass *section*."""
        known = {field.name: field for field in fields(section)}
        unknown = [key for key in tree if key not in known]
        for key in unknown[:SHOWN]:
            self._findings.mistake(place / key, "is no setting here", _did_you_mean(key, known))
        if len(unknown) > SHOWN:
            self._findings.mistake(place, f"{len(unknown) - SHOWN} more are no settings here")
        hints = hints_of(section)
        values: dict[str, Any] = {}
        for name, field in known.items():
            if name in tree:
                values[name] = self.value(hints[name], tree[name], place / name, field.metadata)
            elif field.default is MISSING and field.default_factory is MISSING:
                self._findings.unreadable(place / name, "is missing")
                values[name] = self._blank(hints[name], place / name)
        return section(**values)

    def value(self, hint: Any, raw: Any, place: Place, metadata: Mapping[str, Any]) -> Any:
        """*raw* as *hint* wants it."""
        members = members_of(hint)
        origins = {get_origin(member) or member: member for member in members}
        if list in origins and isinstance(raw, list):
            (item,) = get_args(origins[list])
            return [self.value(item, element, place / index, metadata) for index, element in enumerate(raw)]
        if dict in origins and isinstance(raw, dict):
            _, item = get_args(origins[dict])
            return {key: self.value(item, element, place / key, metadata) for key, element in raw.items()}
        if isinstance(raw, dict) and (section := next(filter(is_dataclass, members), None)):
            return self.table(cast(type[Any], section), raw, place)
        if isinstance(raw, str) and str in members:
            return self._word(raw, place, metadata)
        if isinstance(raw, (str, dict)) and Secret in members:
            return self._secret(raw, place, metadata)
        if isinstance(raw, bool) and bool in members:
            return raw
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            if int in members and isinstance(raw, int):
                return self._number(raw, place, metadata)
            if float in members and -_BIGGEST <= raw <= _BIGGEST:
                return self._number(float(raw), place, metadata)
            if float in members:
                return self._unreadable(hint, place, "must be a finite number")
        return self._unreadable(hint, place, f"must be {describe(hint)}, and is {_describe_raw(raw)}")

    def _word(self, raw: str, place: Place, metadata: Mapping[str, Any]) -> str:
        choices = metadata["choices"]
        if choices and raw not in choices:
            words = ", ".join(choice or '""' for choice in choices)
            self._findings.unreadable(place, f"must be one of {words}", _did_you_mean(raw, choices))
        return raw

    def _number(self, number: float, place: Place, metadata: Mapping[str, Any]) -> float:
        least = metadata["least"]
        if abs(number) > _BIGGEST:
            self._findings.unreadable(place, f"must not be beyond {_BIGGEST}")
        elif least is not None and number < least:
            self._findings.unreadable(place, f"must be at least {least}")
        return number

    def _secret(self, raw: str | Mapping[str, Any], place: Place, metadata: Mapping[str, Any]) -> Secret:
        try:
            secret, warning = resolve(raw, self._environ, place.source.directory, metadata.get("digest", False))
        except BadSecret as mistake:
            self._findings.unreadable(place, mistake.message, mistake.mend)
            return Secret("")
        if warning:
            self._findings.warn(place, *warning)
        source = place.source
        if source.seen_by_all and isinstance(raw, str) and secret.known and source.name not in self._told:
            self._told.add(source.name)
            message = "it can be read by everyone on this machine, and holds secrets"
            self._findings.warn(Place(source), message, "chmod o-r")
        return secret

    def _unreadable(self, hint: Any, place: Place, message: str) -> Any:
        self._findings.unreadable(place, message)
        return self._blank(hint, place)

    def _blank(self, hint: Any, place: Place) -> Any:
        """Something of the right type to go on with; *place* has its mistake already."""
        first = members_of(hint)[0]
        if is_dataclass(first):
            return self.table(cast(type[Any], first), {}, place)
        return Secret("") if first is Secret else (get_origin(first) or first)()


_hints: dict[type[Any], dict[str, Any]] = {}


def hints_of(section: type[Any]) -> dict[str, Any]:
    """The types of a section's settings. Looked up outside the class, where a setting named ``list`` hides nothing."""
    if section not in _hints:
        _hints[section] = get_type_hints(section, vars(sys.modules[section.__module__]), {})
    return _hints[section]


def members_of(hint: Any) -> tuple[Any, ...]:
    """The types that a hint allows."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def default_of(field: Field[Any]) -> Any:
    """A setting's default; ``MISSING`` where it must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def describe(hint: Any) -> str:
    """A type in an operator's words."""
    return " or ".join(_describe_member(member) for member in members_of(hint) if member is not NoneType)


def _describe_member(member: Any) -> str:
    if get_origin(member) is list:
        (item,) = get_args(member)
        return "a list of " + {"a table": "tables", "a string": "strings"}[describe(item)]
    if get_origin(member) is dict:
        return "a table of " + {"a string": "strings", "a number": "numbers"}[describe(get_args(member)[1])]
    if member is Secret:
        return "a secret"
    return _NAMES.get(member, "a table")


def _describe_raw(raw: Any) -> str:
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, dict):
        return "a table"
    return _NAMES.get(type(raw), "a date or time")


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f'did you mean "{close[0]}"?' if close else ""
