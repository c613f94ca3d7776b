"""Reads a TOML tree into the dataclasses of :mod:`claudeproxyd.config.schema`, by their type hints alone."""

from __future__ import annotations

import difflib
import inspect
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import MISSING, Field, fields, is_dataclass
from types import NoneType, UnionType
from typing import Any, Union, cast, get_args, get_origin

from claudeproxyd.config.config_paths import ConfigPath
from claudeproxyd.config.diagnostics import SHOWN, Diagnostics
from claudeproxyd.config.resolving import BadSecret, resolve
from claudeproxyd.config.schema import CredentialSection, Plugin, Provider
from claudeproxyd.config.secret import Secret
from claudeproxyd.interfaces import IExecutorMaker, IPluginMaker

_BIGGEST = 2**63 - 1
#: The tables that a kind has settings in, and which member of its maker tells them.
_OF_KIND: Mapping[type[object], str] = {
    Provider: "settings",
    CredentialSection: "credential_settings",
    Plugin: "settings",
}
_AnyMaker = IExecutorMaker | IPluginMaker
_NAMES = {str: "a string", int: "an integer", float: "a number", bool: "true or false", NoneType: "nothing"}
_PLURALS = {str: "strings", int: "integers", float: "numbers", bool: "trues and falses", Secret: "secrets"}


class Reader:
    """Turns trees into sections. Errors go to the diagnostics, and reading goes on with a blank value."""

    def __init__(
        self,
        diagnostics: Diagnostics,
        environ: Mapping[str, str],
        makers: Mapping[str, IExecutorMaker],
        plugin_makers: Mapping[str, IPluginMaker],
    ) -> None:
        """*makers* are the provider kinds, *plugin_makers* those of plugins: both have settings of their own."""
        self._diagnostics = diagnostics
        self._environ = environ
        self._makers: Mapping[type[Any], Mapping[str, _AnyMaker]] = {
            Provider: makers,
            CredentialSection: makers,
            Plugin: plugin_makers,
        }
        self._told: set[str] = set()
        """Files that a warning was given about already: everyone may read them."""

    def table(
        self, section: type[object], tree: Mapping[str, object], at: ConfigPath, maker: _AnyMaker | None = None
    ) -> object:
        """Return an instance of the dataclass *section*; *maker* is that of the provider around it, if there is one."""
        if section in (Provider, Plugin):
            kind = tree.get("kind")
            maker = self._makers[section].get(kind) if isinstance(kind, str) else None
        own: type[object] | None = getattr(maker, _OF_KIND[section]) if maker and section in _OF_KIND else None
        self._check_names(section, own, tree, at, maker)
        values = self._members(section, tree, at, maker)
        if own is not None:
            values["own"] = own(**self._members(own, tree, at, maker))
        if section is Plugin and maker is not None:
            values["authenticates"] = cast(IPluginMaker, maker).authenticates
        return section(**values)

    def _members(
        self, section: type[object], tree: Mapping[str, object], at: ConfigPath, maker: _AnyMaker | None
    ) -> dict[str, object]:
        """Return the settings of *section* that *tree* has, and a blank for each that is missing without a default."""
        hints = hints_of(section)
        values: dict[str, object] = {}
        for each in settings_of(section):
            name = each.name
            if name in tree:
                values[name] = self.value(hints[name], tree[name], at / name, each.metadata, maker)
            elif each.default is MISSING and each.default_factory is MISSING:
                self._diagnostics.unreadable(at / name, "is missing")
                values[name] = self._blank(hints[name], at / name)
        return values

    def _check_names(
        self,
        section: type[object],
        own: type[object] | None,
        tree: Mapping[str, object],
        at: ConfigPath,
        maker: _AnyMaker | None,
    ) -> None:
        known = {each.name for each in (*settings_of(section), *(settings_of(own) if own else ()))}
        if known.issuperset(tree) or (section is Plugin and maker is None):
            return  # of a plugin that is not installed, nobody knows the settings
        others = {key: self._kinds_with(section, key) for key in tree if key not in known}
        # What belongs to another kind may be there empty; where the kind is unknown, it may be its own.
        unknown = [
            (key, kinds)
            for key, kinds in others.items()
            if not kinds or not (maker is None or _says_nothing(tree[key]))
        ]
        for key, kinds in unknown[:SHOWN]:
            if maker is not None and kinds:
                fix = f"leave it out; it belongs to {', '.join(kinds)}"
                self._diagnostics.error(at / key, f'is no setting of kind "{maker.kind}"', fix)
            else:
                self._diagnostics.error(at / key, "is no setting here", _did_you_mean(key, known))
        if len(unknown) > SHOWN:
            self._diagnostics.error(at, f"{len(unknown) - SHOWN} more are no settings here")

    def _kinds_with(self, section: type[object], key: str) -> list[str]:
        """Return the kinds that have a setting of that name in *section*."""
        member = _OF_KIND.get(section)
        return [
            kind
            for kind, maker in self._makers.get(section, {}).items()
            if member and any(key == each.name for each in settings_of(getattr(maker, member)))
        ]

    def value(
        self,
        hint: object,
        raw: object,
        at: ConfigPath,
        metadata: Mapping[str, object],
        maker: _AnyMaker | None = None,
    ) -> object:
        """Return *raw* as *hint* wants it; *maker* as in :meth:`table`."""
        members = members_of(hint)
        by_origin = {get_origin(member) or member: member for member in members}
        if list in by_origin and isinstance(raw, list):
            (item,) = get_args(by_origin[list])
            return [self.value(item, element, at / index, metadata, maker) for index, element in enumerate(raw)]
        if dict in by_origin and isinstance(raw, dict):
            _, item = get_args(by_origin[dict])
            return {key: self.value(item, element, at / key, metadata, maker) for key, element in raw.items()}
        if isinstance(raw, dict) and (section := next(filter(is_dataclass, members), None)):
            return self.table(cast(type[object], section), raw, at, maker)
        if isinstance(raw, str) and str in members:
            return self._word(raw, at, metadata)
        if isinstance(raw, (str, dict)) and Secret in members:
            return self._secret(raw, at, metadata)
        if isinstance(raw, bool) and bool in members:
            return raw
        if isinstance(raw, (int, float)) and not isinstance(raw, bool):
            if int in members and isinstance(raw, int):
                return self._number(raw, at, metadata)
            if float in members and -_BIGGEST <= raw <= _BIGGEST:
                return self._number(float(raw), at, metadata)
            if float in members:
                return self._unreadable(hint, at, "must be a finite number")
        return self._unreadable(hint, at, f"must be {describe(hint)}, and is {_describe_raw(raw)}")

    def _word(self, raw: str, at: ConfigPath, metadata: Mapping[str, Any]) -> str:
        choices = metadata["choices"]
        if choices and raw not in choices:
            words = ", ".join(choice or '""' for choice in choices)
            self._diagnostics.unreadable(at, f"must be one of {words}", _did_you_mean(raw, choices))
        return raw

    def _number(self, number: float, at: ConfigPath, metadata: Mapping[str, Any]) -> float:
        least = metadata["least"]
        if abs(number) > _BIGGEST:
            self._diagnostics.unreadable(at, f"must not be beyond {_BIGGEST}")
        elif least is not None and number < least:
            self._diagnostics.unreadable(at, f"must be at least {least}")
        return number

    def _secret(self, raw: str | Mapping[str, object], at: ConfigPath, metadata: Mapping[str, Any]) -> Secret:
        try:
            secret, warning = resolve(raw, self._environ, at.source.directory, metadata.get("digest", False))
        except BadSecret as problem:
            self._diagnostics.unreadable(at, problem.message, problem.hint)
            return Secret("")
        if warning:
            self._diagnostics.warn(at, *warning)
        source = at.source
        if source.seen_by_all and isinstance(raw, str) and secret.known and source.name not in self._told:
            self._told.add(source.name)
            message = "it can be read by everyone on this machine, and holds secrets"
            self._diagnostics.warn(ConfigPath(source), message, "chmod o-r")
        return secret

    def _unreadable(self, hint: object, at: ConfigPath, message: str) -> object:
        self._diagnostics.unreadable(at, message)
        return self._blank(hint, at)

    def _blank(self, hint: object, at: ConfigPath) -> object:
        """Return a value of the right type to go on with; *at* has its error already."""
        first = members_of(hint)[0]
        if is_dataclass(first):
            return self.table(cast(type[object], first), {}, at)
        return Secret("") if first is Secret else (get_origin(first) or first)()


_hints: dict[type[object], dict[str, object]] = {}
_settings: dict[type[object], Sequence[Field[object]]] = {}


def hints_of(section: type[object]) -> dict[str, object]:
    """Return the types of a section's settings, those of its bases included.

    Each is looked up in its module, outside the class, where a setting named ``list`` hides nothing.
    """
    if section not in _hints:
        hints = _hints[section] = {}
        for base in reversed(section.__mro__):
            names = vars(sys.modules[base.__module__])
            hints |= inspect.get_annotations(base, globals=names, locals={}, eval_str=True)
    return _hints[section]


def settings_of(section: type[Any]) -> Sequence[Field[object]]:
    """Return the settings of a section: its fields without what its kind reads of the same table."""
    if section not in _settings:
        _settings[section] = tuple(each for each in fields(section) if "doc" in each.metadata)
    return _settings[section]


def members_of(hint: object) -> tuple[Any, ...]:
    """Return the types that a hint allows."""
    return get_args(hint) if get_origin(hint) in (Union, UnionType) else (hint,)


def default_of(field: Field[object]) -> object:
    """Return a setting's default; ``MISSING`` where it must be given."""
    return field.default if field.default_factory is MISSING else field.default_factory()


def describe(hint: object) -> str:
    """Return a type in an operator's words."""
    return " or ".join(_describe_member(member) for member in members_of(hint) if member is not NoneType)


def _describe_member(member: Any) -> str:
    if get_origin(member) is list:
        (item,) = get_args(member)
        return f"a list of {_PLURALS.get(item, 'tables')}"
    if get_origin(member) is dict:
        return f"a table of {' or '.join(_PLURALS.get(item, 'tables') for item in members_of(get_args(member)[1]))}"
    if member is Secret:
        return "a secret"
    return _NAMES.get(member, "a table")


def _describe_raw(raw: object) -> str:
    if isinstance(raw, list):
        return "a list"
    if isinstance(raw, dict):
        return "a table"
    return _NAMES.get(type(raw), "a date or time")


def _says_nothing(raw: object) -> bool:
    """Whether *raw* is empty, all that is in it included: the default of most settings, written down."""
    return all(map(_says_nothing, raw.values())) if isinstance(raw, dict) else raw in ("", [], False, 0)


def _did_you_mean(word: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(word, known, n=1)
    return f'did you mean "{close[0]}"?' if close else ""
