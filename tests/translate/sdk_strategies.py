"""What the SDK's own types allow, as a strategy: whoever draws from it sends what a real client may send."""

from __future__ import annotations

import functools
import os
import types
import typing
from typing import Annotated, Any, Literal, NotRequired, Required, Union

import typing_extensions
from hypothesis import strategies as st

TEXTS = st.sampled_from(["", " ", "a", "b", "toolu_1", "look", "\u00e9\U0001f600", "cpxd1.google.aGk"])
"""Few, so that names and ids meet."""
VALUES: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**70), 2**70) | st.floats(-9, 9) | TEXTS,
    lambda inner: st.lists(inner, max_size=2) | st.dictionaries(TEXTS, inner, max_size=2),
    max_leaves=4,
)
"""Any JSON."""
_PLAIN: dict[Any, st.SearchStrategy[Any]] = {
    str: TEXTS,
    int: st.integers(-1, 2048),
    float: st.floats(0, 1),
    bool: st.booleans(),
    object: VALUES,
    Any: VALUES,
    type(None): st.none(),
}


@functools.cache
def sent_as(kind: Any) -> st.SearchStrategy[Any]:
    """JSON values that a client may send for *kind*; nothing for what exists in Python alone."""
    if kind in _PLAIN:
        return _PLAIN[kind]
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        return st.sampled_from(arguments)
    if origin in (Union, types.UnionType):
        return st.one_of([sent_as(argument) for argument in arguments])
    if origin in (Annotated, Required, NotRequired, typing_extensions.Required, typing_extensions.NotRequired):
        return sent_as(arguments[0])
    if origin is os.PathLike or origin is typing.IO:
        return st.nothing()
    if origin is dict:
        return st.dictionaries(TEXTS, sent_as(arguments[1]), max_size=2)
    if arguments:
        element = sent_as(arguments[0])
        return st.lists(element, max_size=0 if element.is_empty else 3)
    if isinstance(kind, type) and issubclass(kind, dict):
        return shaped(kind)
    return st.nothing()


def shaped(kind: Any, **instead: st.SearchStrategy[Any]) -> st.SearchStrategy[dict[str, Any]]:
    """A dictionary of *kind*, with strategies of one's own for some members."""
    always, maybe = {}, {}
    for name, member in typing_extensions.get_type_hints(kind, include_extras=True).items():
        needed = typing.get_origin(member) in (Required, typing_extensions.Required)
        (always if needed else maybe)[name] = instead[name] if name in instead else sent_as(member)
    return st.fixed_dictionaries(always, optional=maybe)
