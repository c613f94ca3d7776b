"""Which tools a model is offered."""

from __future__ import annotations

import json
from typing import Any

import msgspec
from twisted.trial.unittest import SynchronousTestCase

from claudeproxyd.translate.builtin_tools import BUILTIN_TOOLS
from claudeproxyd.translate.conversation import Conversation, Text, ToolChoice, ToolResult, WebSearch
from claudeproxyd.translate.gemini.policy import POLICY
from claudeproxyd.translate.reading import read_conversation
from tests.translate.asking import assistant, body, call, read, refusal, result, system, tool, user


def names(conversation: Conversation) -> list[str]:
    return [offered.name for offered in conversation.tools]


def change(kind: str, **members: Any) -> dict[str, Any]:
    return {"type": f"tool_{kind}", "tool": members}


def reference(name: str) -> dict[str, Any]:
    return {"type": "tool_reference", "tool_name": name}


class CustomTests(SynchronousTestCase):
    """Tools with a schema."""

    def test_schema_is_untouched(self) -> None:
        """The client's schema stays the bytes that it sent: big numbers, the order of members, spaces."""
        sent = b'{"z" : 1.50, "type":"object","a":12345678901234567890123}'
        request = body(tools=[tool("t", description="does")]).replace(b'{"type": "object"}', sent)
        (offered,) = read_conversation(request, family="google", policy=POLICY).tools
        self.assertEqual((offered.name, offered.description, bytes(offered.schema)), ("t", "does", sent))

    def test_misfits(self) -> None:
        """Tools without a name or a schema, and two of one name, are refused with their place."""
        self.assertEqual(refusal(tools=[{"input_schema": {}}]), "tools.0.custom.name: Field required")
        self.assertEqual(refusal(tools=[{"name": "t"}]), "tools.0.custom.input_schema: Field required")
        self.assertEqual(
            refusal(tools=[{"name": "t", "input_schema": []}]),
            "tools.0.custom.input_schema: Input should be a valid dictionary",
        )
        self.assertEqual(refusal(tools=[tool("t"), tool("t")]), "tools: Tool names must be unique.")

    def test_wishes(self) -> None:
        """Wishes that only Anthropic's API grants are dropped with one warning each."""
        warnings = read(tools=[tool("a", strict=True, input_examples=[{}]), tool("b", strict=True)]).warnings
        self.assertEqual([warning.split()[0] for warning in warnings], ["strict", "input_examples"])
        self.assertEqual(read(tools=[tool("a", strict=False, cache_control={"type": "ephemeral"})]).warnings, [])

    def test_callers(self) -> None:
        """A tool that only code execution may call is not offered, and the log says so."""
        said = read(
            tools=[tool("a", allowed_callers=["code_execution_20260120"]), tool("b", allowed_callers=["direct"])]
        )
        self.assertEqual(names(said), ["b"])
        self.assertIn("tool a is not offered", said.warnings[0])


class PublishedTests(SynchronousTestCase):
    """Tools that Claude knows by heart."""

    def test_each(self) -> None:
        """bash, text_editor and memory become functions under the name that the client's code listens to."""
        for kind, name in {
            "bash_20241022": "bash",
            "bash_20250124": "bash",
            "text_editor_20241022": "str_replace_editor",
            "text_editor_20250124": "str_replace_editor",
            "text_editor_20250429": "str_replace_based_edit_tool",
            "text_editor_20250728": "str_replace_based_edit_tool",
            "memory_20250818": "memory",
        }.items():
            (offered,) = read(tools=[{"type": kind, "name": name}]).tools
            self.assertEqual(offered.name, name)
            schema = json.loads(bytes(offered.schema))
            self.assertEqual(schema["type"], "object")
            self.assertLessEqual(set(schema["required"]), set(schema["properties"]))

    def test_commands(self) -> None:
        """Each version has the commands and members that its clients know, and no other."""
        schemas = {kind: json.loads(bytes(published.schema))["properties"] for kind, published in BUILTIN_TOOLS.items()}
        self.assertEqual(set(schemas["bash_20250124"]), {"command", "restart"})
        self.assertIn("undo_edit", schemas["text_editor_20250124"]["command"]["enum"])
        self.assertNotIn("insert_text", schemas["text_editor_20250124"])
        self.assertNotIn("undo_edit", schemas["text_editor_20250728"]["command"]["enum"])
        self.assertIn("insert_text", schemas["text_editor_20250728"])
        self.assertEqual(
            set(schemas["memory_20250818"]["command"]["enum"]),
            {"view", "create", "str_replace", "insert", "delete", "rename"},
        )

    def test_other_name(self) -> None:
        """Under another name the API refuses them, and so do we."""
        self.assertEqual(
            refusal(tools=[{"type": "bash_20250124", "name": "sh"}]),
            "tools.0.bash_20250124.name: Input should be 'bash'",
        )

    def test_unknown_version(self) -> None:
        """A version that is not published here is refused by name."""
        self.assertIn("bash_20991231", refusal(tools=[{"type": "bash_20991231", "name": "bash"}]))


class ServerToolTests(SynchronousTestCase):
    """Tools that run on Anthropic's side."""

    def test_refused(self) -> None:
        """Those that nobody else runs are refused by name, unknown ones too."""
        for kind in (
            "advisor_20260301",
            "browser_toolset_20260801",
            "code_execution_20260521",
            "computer_20251124",
            "computer_toolset_20260801",
            "mcp_toolset",
            "web_fetch_20260318",
            "telepathy_20990101",
        ):
            told = refusal(tools=[tool("t"), {"type": kind, "name": "x"}])
            self.assertEqual(told, f"tools.1: {kind} is not supported by the model that serves this request")

    def test_web_search(self) -> None:
        """web_search is no function: it comes apart, with what it is limited to."""
        said = read(
            tools=[
                tool("t"),
                {
                    "type": "web_search_20260318",
                    "name": "web_search",
                    "allowed_domains": ["a.example"],
                    "max_uses": 3,
                    "user_location": {"type": "approximate", "city": "Graz"},
                },
            ]
        )
        search = said.web_search
        assert search is not None
        location = json.loads(msgspec.json.encode(search.user_location))
        self.assertEqual(location, {"type": "approximate", "city": "Graz"})
        search.user_location = None
        self.assertEqual(search, WebSearch("web_search", ["a.example"], [], 3))
        self.assertEqual(names(said), ["t"])
        self.assertIn("user_location", said.warnings[0])

    def test_both_domain_lists(self) -> None:
        """Allowed and blocked domains exclude each other."""
        search = {"type": "web_search_20250305", "name": "w", "allowed_domains": ["a"], "blocked_domains": ["b"]}
        self.assertIn("only one of", refusal(tools=[search]))

    def test_tool_search(self) -> None:
        """Where Anthropic would search among deferred tools, all of them are there from the start, with a warning."""
        for kind in ("tool_search_tool_regex_20251119", "tool_search_tool_bm25"):
            said = read(tools=[{"type": kind, "name": kind}, tool("a", defer_loading=True), tool("b")])
            self.assertEqual(sorted(names(said)), ["a", "b"])
            self.assertIn(kind, said.warnings[0])

    def test_tool_search_later(self) -> None:
        """So it is where the search comes in mid-conversation."""
        search = {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"}
        said = read(
            user("go"),
            system(change("addition", type="tool_definition", definition=search)),
            tools=[tool("a", defer_loading=True)],
        )
        self.assertEqual(names(said), ["a"])

    def test_searches_without_end(self) -> None:
        """Offering all of many tools again and again costs nothing the second time."""
        search = {"type": "tool_search_tool_bm25", "name": "tool_search_tool_bm25"}
        found = change("addition", type="tool_definition", definition=search)
        said = read(
            user("go"),
            system(*[found] * 20_000),
            tools=[tool(f"t{number}", defer_loading=True) for number in range(9_999)],
        )
        self.assertEqual(len(names(said)), 9_999)


class DeferredTests(SynchronousTestCase):
    """Tools that come into a conversation later, or leave it."""

    tools = (tool("z", defer_loading=True), tool("a"), tool("y", defer_loading=True))

    def test_defined_anew(self) -> None:
        """A tool that is defined anew is the new one alone: not offered where only code execution may call it now."""
        for callers, offered in ((["code_execution_20260521"], ["b"]), (["direct"], ["b", "a"])):
            definition = tool("a", description="new", allowed_callers=callers)
            said = read(
                user("go"),
                system(change("addition", type="tool_definition", definition=definition)),
                tools=[tool("a", description="old"), tool("b")],
            )
            self.assertEqual(names(said), offered)
            self.assertNotIn("old", [each.description for each in said.tools])

    def test_waiting(self) -> None:
        """A deferred tool that nothing names is not sent."""
        self.assertEqual(names(read(tools=self.tools)), ["a"])

    def test_reference(self) -> None:
        """A tool_reference in a result brings its tool, behind those that were there, and is told as text."""
        said = read(
            user("go"), assistant(call("i")), user(result("i", [reference("y"), reference("nix")])), tools=self.tools
        )
        self.assertEqual(names(said), ["a", "y"])
        self.assertIn("nix", said.warnings[0])
        found = said.turns[-1].parts[0]
        assert isinstance(found, ToolResult)
        self.assertEqual(found.content, [Text("Tool y can be called from now on."), Text("Tool nix is not available.")])

    def test_server_side_reference(self) -> None:
        """What Anthropic's own search has found earlier is offered as well."""
        found = {
            "type": "tool_search_tool_result",
            "tool_use_id": "srvtoolu_1",
            "content": {"type": "tool_search_tool_search_result", "tool_references": [reference("z")]},
        }
        self.assertEqual(names(read(user("go"), assistant(found, "there"), user("on"), tools=self.tools)), ["a", "z"])

    def test_addition_and_removal(self) -> None:
        """Tools come and go as the messages say, and the last word counts."""
        said = read(
            user("go"),
            system(
                change("addition", type="tool_reference", name="y"), change("removal", type="tool_reference", name="a")
            ),
            assistant("ok"),
            user("on", change("addition", type="tool_definition", definition=tool("new"))),
            system(change("removal", type="tool_reference", name="y")),
            tools=self.tools,
        )
        self.assertEqual(names(said), ["new"])
        self.assertEqual(len(said.turns), 3)

    def test_additions_that_fail(self) -> None:
        """A change that names no tool, or one of an MCP server, is refused with its place."""
        self.assertEqual(
            refusal(user("go"), system(change("addition", type="tool_reference", name="q"))),
            "messages.1.content.0.tool_addition: Tool reference 'q' not found in available tools",
        )
        self.assertIn(
            "messages.1.content.0.tool_removal.tool: mcp_toolset_reference is not supported",
            refusal(user("go"), system(change("removal", type="mcp_toolset_reference", server_name="s"))),
        )
        self.assertIn("tool: Field required", refusal(user("go"), system({"type": "tool_addition"})))
        self.assertIn(
            "tool_addition.tool.definition: Field required",
            refusal(user("go"), system(change("addition", type="tool_definition"))),
        )


class ChoiceTests(SynchronousTestCase):
    """tool_choice."""

    def test_kinds(self) -> None:
        """Each kind is read, with whether calls may come in parallel."""
        tools = [tool("t")]
        self.assertEqual(read(tools=tools).tool_choice, ToolChoice())
        self.assertEqual(read(tools=tools, tool_choice={"type": "none"}).tool_choice, ToolChoice("none"))
        self.assertEqual(
            read(tools=tools, tool_choice={"type": "any", "disable_parallel_tool_use": True}).tool_choice,
            ToolChoice("any", parallel=False),
        )
        self.assertEqual(
            read(tools=tools, tool_choice={"type": "tool", "name": "t"}).tool_choice, ToolChoice("tool", "t")
        )

    def test_deferred(self) -> None:
        """A deferred tool that must be called has to be there."""
        said = read(tools=[tool("t", defer_loading=True)], tool_choice={"type": "tool", "name": "t"})
        self.assertEqual(names(said), ["t"])

    def test_no_such_tool(self) -> None:
        """A choice that cannot be is refused in the API's words."""
        self.assertEqual(
            refusal(tools=[tool("t")], tool_choice={"type": "tool", "name": "u"}),
            "tool_choice.tool.name: Tool 'u' not found in provided tools",
        )
        self.assertEqual(
            refusal(tool_choice={"type": "any"}), "tool_choice.any may only be specified while providing tools"
        )
        self.assertEqual(
            refusal(tool_choice={"type": "some"}), "tool_choice.type: Input 'some' is none of the expected values"
        )
