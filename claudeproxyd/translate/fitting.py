"""Answers that are odd beside what they say: they are paid for, and read all the same."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from types import UnionType
from typing import Generic, TypeVar, Union, get_args, get_origin

import msgspec

from claudeproxyd.json_guards import UNREADABLE
from claudeproxyd.messages.loose import read_object, without_halves

Answer = TypeVar("Answer", bound=msgspec.Struct)


class LooseReader(Generic[Answer]):
    """Reads what a strict decoder of one struct has refused. Used by the readers of translated answers."""

    def __init__(
        self,
        struct: type[Answer],
        *,
        said: Collection[str],
        instead: Mapping[str, object],
        mend: Callable[[dict[str, object]], None] | None = None,
    ) -> None:
        """
        :param said: the members that are what the model says, and what holds it: no answer can do without.
        :param instead: what stands for a member that was there, where its absence has a meaning of its own.
        :param mend: changes the object before it is read, where one shape can be told as another.
        """
        self._struct = struct
        self._said = frozenset(said)
        self._instead = instead
        self._mend = mend
        self._decode = msgspec.json.Decoder(struct, strict=False).decode

    def read(self, data: bytes) -> tuple[Answer, str]:
        """Return the answer in bytes that are none by the letter, and what is odd about it, for a log.

        Members that are not of their type are left out, unless they are what the model says. Numbers may be strings.
        Raises one of :data:`~claudeproxyd.json_guards.UNREADABLE`: it is no answer.
        """
        mended = without_halves(data)
        members = read_object(mended)
        if members is None:
            return self._decode(mended), ""  # it says best what is wrong
        if self._mend is not None:
            self._mend(members)
        odd: list[str] = []
        fitting = self._fit_object(members, self._struct, odd)
        if mended != data:
            odd.append("half a surrogate pair")
        return self._decode(msgspec.json.encode(fitting)), odd[0] if odd else "a response of an unknown shape"

    def _fit_object(
        self, members: dict[str, object], struct: type[msgspec.Struct], odd: list[str]
    ) -> dict[str, object]:
        """Return the members that are read, as far as they have their types; the others are named in *odd*."""
        fields = msgspec.structs.fields(struct)
        return {
            field.encode_name: self._fit(members[field.encode_name], field.type, field.encode_name, odd)
            for field in fields
            if field.encode_name in members
        }

    def _fit(self, value: object, kind: object, name: str, odd: list[str]) -> object:
        choices = get_args(kind) if get_origin(kind) in (Union, UnionType) else (kind,)
        for choice in choices:
            if choice is msgspec.Raw:
                return value
            if isinstance(value, dict) and isinstance(choice, type) and issubclass(choice, msgspec.Struct):
                return self._fit_object(value, choice, odd)
            if isinstance(value, list) and get_origin(choice) is list:
                return [self._fit(each, get_args(choice)[0], name, odd) for each in value]
        try:
            msgspec.convert(value, kind, strict=False)
        except UNREADABLE:
            if name not in self._said:
                odd.append(f"{name} of an unknown shape")
                return self._instead.get(name)
        return value
