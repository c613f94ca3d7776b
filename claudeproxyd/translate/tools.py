"""Which tools the model may call by the end of a conversation."""

from __future__ import annotations

from typing import TYPE_CHECKING

from claudeproxyd.errors import Unsupported
from claudeproxyd.steps import STEP
from claudeproxyd.translate.builtin_tools import BUILTIN_TOOLS
from claudeproxyd.translate.conversation import Tool, ToolChoice, WebSearch
from claudeproxyd.translate.field_policy import Action, dropped, not_carried, tool_family
from claudeproxyd.translate.wire import require, require_object

if TYPE_CHECKING:
    from collections.abc import Sequence

    from claudeproxyd.steps import Steps
    from claudeproxyd.translate.field_policy import FieldPolicy
    from claudeproxyd.translate.wire import Choice, ToolChange, ToolEntry


class Toolbox:
    """All tools that a request speaks of, and those among them that are offered.

    Deferred tools are offered once something in the conversation names them, after those that were there from the
    start: the tools' beginning stays the same from request to request, and what is cached of it stays good.
    """

    def __init__(self, policy: FieldPolicy, warnings: list[str]) -> None:
        """Begin without any. *warnings* is added to."""
        self._policy = policy
        self._warnings = warnings
        self._known: dict[str, Tool | WebSearch] = {}
        self._offered: dict[str, Tool | WebSearch] = {}
        self._withheld: dict[str, None] = {}
        """The names of all others that are known."""

    def fill(self, entries: Sequence[ToolEntry]) -> Steps[None]:
        """Learn what tools the request has, in steps.

        Raises :class:`Unsupported` for tools that the policy rejects, and for a name that two of them have.
        """
        search: ToolEntry | None = None
        for index, entry in enumerate(entries):
            if index % STEP == STEP - 1:
                yield
            place = f"tools.{index}"
            if self._is_search(entry):
                search = entry
                continue
            tool = self._read(entry, place)
            if tool.name in self._known:
                raise Unsupported("tools: Tool names must be unique.")
            self._learn(tool, entry, offered=not entry.defer_loading)
        if search:
            self._offer_all(search)

    def _learn(self, tool: Tool | WebSearch, entry: ToolEntry, *, offered: bool) -> None:
        for field, action in self._policy.tool_fields.items():
            if action is Action.WARN and getattr(entry, field):
                self._warnings.append(dropped(f"{field} of tools"))
        if entry.allowed_callers and "direct" not in entry.allowed_callers:
            self._warnings.append(f"tool {tool.name} is not offered: only code execution may call it")
            offered = False
        self._known[tool.name] = tool
        self._withhold(tool.name)
        if offered:
            self.offer(tool.name)

    def _withhold(self, name: str) -> None:
        self._offered.pop(name, None)
        self._withheld[name] = None

    def offer(self, name: str) -> bool:
        """Offer a tool from here on. Return False if there is none of that name."""
        tool = self._known.get(name)
        if tool is None:
            return False
        self._offered.setdefault(name, tool)
        self._withheld.pop(name, None)
        return True

    def _offer_all(self, search: ToolEntry) -> None:
        """Nobody else searches among deferred tools: where *search* would, all of them are there."""
        self._warnings.append(f"{search.type} was replaced: all deferred tools are offered at once")
        for name in tuple(self._withheld):
            self.offer(name)

    def add(self, change: ToolChange, place: str) -> None:
        """Do what a tool_addition says. Raises :class:`Unsupported` where that cannot be."""
        if change.type != "tool_definition":
            self.offer(self._named(change, place))
        elif change.definition is None:
            raise Unsupported(f"{place}.tool.definition: Field required")
        elif self._is_search(change.definition):
            self._offer_all(change.definition)
        else:
            tool = self._read(change.definition, f"{place}.tool.definition")
            self._learn(tool, change.definition, offered=True)

    def remove(self, change: ToolChange, place: str) -> None:
        """Do what a tool_removal says. Raises :class:`Unsupported` where that cannot be."""
        self._withhold(self._named(change, place))

    def _is_search(self, entry: ToolEntry) -> bool:
        return self._policy.tools.get(tool_family(entry.type or "custom")) is Action.WARN

    def _read(self, entry: ToolEntry, place: str) -> Tool | WebSearch:
        tool_type = entry.type or "custom"
        if self._policy.tools.get(tool_family(tool_type), Action.REJECT) is Action.REJECT:
            raise Unsupported(not_carried(place, tool_type))
        return _read_tool(entry, place)

    def _named(self, change: ToolChange, place: str) -> str:
        if change.type != "tool_reference":
            raise Unsupported(not_carried(f"{place}.tool", change.type))
        name = require(change.name, f"{place}.tool.name")
        if name not in self._known:
            raise Unsupported(f"{place}: Tool reference '{name}' not found in available tools")
        return name

    def chosen(self, choice: Choice | None) -> ToolChoice:
        """Return ``tool_choice``, checked against the tools on offer; a deferred tool that it names is offered.

        Raises :class:`Unsupported`.
        """
        if choice is None:
            return ToolChoice()
        name = ""
        if choice.type == "tool":
            name = require(choice.name, "tool_choice.tool.name")
            if not self.offer(name):
                raise Unsupported(f"tool_choice.tool.name: Tool '{name}' not found in provided tools")
        elif choice.type == "any" and not self._offered:
            raise Unsupported("tool_choice.any may only be specified while providing tools")
        return ToolChoice(choice.type, name, parallel=not choice.disable_parallel_tool_use)

    @property
    def functions(self) -> list[Tool]:
        """The tools that the client runs."""
        return [tool for tool in self._offered.values() if isinstance(tool, Tool)]

    @property
    def web_search(self) -> WebSearch | None:
        """The server's own one, if it is on offer."""
        return next((tool for tool in self._offered.values() if isinstance(tool, WebSearch)), None)


def _read_tool(entry: ToolEntry, place: str) -> Tool | WebSearch:
    tool_type = entry.type or "custom"
    family = tool_family(tool_type)
    if family == "custom":
        return Tool(
            require(entry.name, f"{place}.custom.name"),
            entry.description or "",
            require_object(entry.input_schema, f"{place}.custom.input_schema"),
        )
    if published := BUILTIN_TOOLS.get(tool_type):
        if entry.name != published.name:
            raise Unsupported(f"{place}.{tool_type}.name: Input should be '{published.name}'")
        return Tool(published.name, published.description, published.schema)
    if family == "web_search":
        if entry.allowed_domains and entry.blocked_domains:
            raise Unsupported(f"{place}: only one of `allowed_domains` and `blocked_domains` can be specified")
        name = require(entry.name, f"{place}.{tool_type}.name")
        return WebSearch(
            name, entry.allowed_domains or [], entry.blocked_domains or [], entry.max_uses, entry.user_location
        )
    raise Unsupported(not_carried(place, tool_type))
