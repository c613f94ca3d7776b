"""What the judges of the cases have to know of an upstream's API. Shares no code with the daemon."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from re import Pattern
from typing import Any, NamedTuple, Protocol

Json = dict[str, Any]
Fact = tuple[Any, ...]


class Name(str):
    """A tool's name in a fact: the daemon may have mapped it to another."""


class Id(str):
    """A call's id in a fact: the daemon may have mapped it to another, one to one."""


class Call(NamedTuple):
    """A call in an upstream's answer."""

    name: str
    id: str
    """'' where the upstream gave none."""


class Signed(NamedTuple):
    """A signature in an upstream's answer, in base64."""

    signature: str
    due: bool
    """Whether a client that takes thinking blocks has to be given it."""


class Family(Protocol):
    """One API: its types, its facts, and the ways in which its answers arrive.

    The facts of a request are compared with those that ``facts.py`` reads of the Claude request, in order: so they are
    of the same kinds and shapes.
    """

    mark: str
    """What everything that the daemon mints for it begins with: ``cpxd1.google.``."""
    tool_name: Pattern[str]
    """The names of tools that it takes."""

    defaults: Mapping[str, str]
    """Members of a case that does not say them."""
    judges_by_model: bool
    """What is refused is the model's matter, and not the kind's."""
    signs: bool
    """Whether the upstream signs its thoughts; else what travels in a signature is the daemon's own affair."""
    own_signatures: Sequence[str]
    """Those that the daemon sends of its own accord."""

    # -- types

    def check_request(self, body: Json, kind: str) -> None:
        """Raise unless *body* is a request that the API takes, as far as types can tell.

        *kind*: the provider's; the model where the family judges by that.
        """

    def check_answer(self, chunk: Json) -> None:
        """Raise unless *chunk* is one that the API sends."""

    # -- facts of a request

    def has_system(self, body: Json) -> bool:
        """Whether the system's texts have a place of their own; else the user says them first."""

    def takes_records(self, body: Json) -> bool:
        """Whether records of the upstream's own searches go back as they came, and not as text."""

    def texts(self, body: Json) -> Iterator[tuple[str, str]]:
        """Who said what: ``system``, ``user``, ``model``, and ``result N`` of the Nth call; thoughts are left out."""

    def calls(self, body: Json) -> Iterator[Fact]:
        """Calls, results and thoughts in order.

        ``("call", Name, input)``, ``("output" or "error", Name, id or Id)``, ``("thought", text)``,
        ``("search", part)``.
        """

    def media(self, body: Json) -> Iterator[Fact]:
        """``("data", type, digest)`` and ``("link", url)``; those of results first."""

    def tools(self, body: Json) -> Iterator[Fact]:
        """``("tool", Name, description, sorted names of the schema's properties)``."""

    def wishes(self, body: Json) -> Iterator[Fact]:
        """How the answer is to be made.

        ``temperature``, ``top_p``, ``top_k``, ``stop``, ``("choice", auto, any or none, Name)``, ``("search", bool)``.
        """

    def schemas(self, body: Json) -> str:
        """The schemas that a model reads, as JSON in which the order of members can be compared."""

    def signatures(self, body: Json) -> Iterator[str]:
        """Those that the upstream is shown, in base64."""

    # -- facts of an answer

    def answer(self, chunks: Sequence[Json]) -> Mapping[str, Any]:
        """``text``, ``thoughts``, ``calls`` (inputs), ``searches``; and of ``input``, ``cached``, ``output`` and
        ``thinking`` the tokens that the upstream has counted."""

    def answer_calls(self, chunks: Sequence[Json]) -> Sequence[Call]:
        """The calls, in order."""

    def answer_signatures(self, chunks: Sequence[Json]) -> Sequence[Signed]:
        """The signatures, in order."""

    def answer_pages(self, chunks: Sequence[Json]) -> Iterator[str]:
        """The URLs of all sources."""

    # -- delivery

    def streams(self, chunks: Sequence[Json]) -> Iterator[tuple[str, list[bytes]]]:
        """The ways in which a streamed answer can arrive: a name and the reads of each. The first is the plain one."""

    def bodies(self, chunks: Sequence[Json]) -> Iterator[tuple[str, bytes]]:
        """The bodies that the same answer can have where it is not streamed. The first is the plain one."""


def ordered(value: Any) -> str:
    """JSON of the client's own: its members' order is a fact too, for models write arguments in it."""
    return json.dumps(value, ensure_ascii=False)


def pieces(data: bytes, size: int) -> list[bytes]:
    """*data* in reads of that many bytes."""
    return [data[at : at + size] for at in range(0, len(data), size)]
