"""What the pages say of each other, of the package and of the configuration, held against these."""

from __future__ import annotations

import re
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

from claudeproxyd.config.diagnostics import ConfigError
from claudeproxyd.executors.kinds import BUILT_IN
from claudeproxyd.translate.openai_chat.dialects import SERVERS, server_of
from tests.config.support import SANDBOX, ConfigTestCase

ROOT = Path(__file__).parents[1]
FOLDERS = ("docs", "changelog.d", "benchmarks", "deploy", "tests", "attack")
PAGES = [*sorted(ROOT.glob("*.md")), *sorted(page for folder in FOLDERS for page in (ROOT / folder).rglob("*.md"))]
NAMED = set(map(Path, ("/", "/build", "/etc", "/opt", "/run", "/usr", "/var")))
"""Folders that pages name on purpose: tests may run there too."""

_FENCED = re.compile(r"^(```|~~~).*?^\1[ ]*$", re.MULTILINE | re.DOTALL)
_LINK = re.compile(r"\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#{1,6} +(.+)$", re.MULTILINE)
_TOML = re.compile(r"^```toml\n(.*?)^```", re.MULTILINE | re.DOTALL)
_CODE = re.compile(r"`([^`]+)`")
#: A row of the table of servers: its name, base URL, a model, and what else its configuration has.
_SERVER = re.compile(r"^\| (\w[^|]*) \| `(https?://[^`]+)`[^|]* \| ([^|]*) \|([^|]*)\|$", re.MULTILINE)
#: Of a block by itself: what it leaves to the reader, such as a file or the provider that a route names, is no mistake.
_MISTAKE = re.compile(r"is no setting|is no TOML|must be")


def prose(page: Path) -> str:
    """A page without its blocks of code."""
    return _FENCED.sub("", page.read_text("utf-8"))


def anchors(page: Path) -> set[str]:
    """What the headings of a page are called in links, as GitHub makes it."""
    found: Counter[str] = Counter()
    names = set()
    for heading in _HEADING.findall(prose(page)):
        words = re.sub(r"\[(.*?)\]\(.*?\)", r"\1", heading).strip().lower()
        name = re.sub(r"[^\w\- ]", "", words).replace(" ", "-")
        names.add(f"{name}-{found[name]}" if found[name] else name)
        found[name] += 1
    return names


def dead_links(page: Path) -> Iterator[str]:
    """The links of a page to files and headings that are not there."""
    # Fragments are read in CHANGELOG.md, which is at the root.
    folder = ROOT if page.parent.name == "changelog.d" else page.parent
    for link in _LINK.findall(prose(page)):
        if re.match(r"[a-z]+:", link):
            continue
        path, _, anchor = link.partition("#")
        target = folder / path if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            yield f"{page.relative_to(ROOT)}: {link}"


class Pages(ConfigTestCase):
    """The pages of the repository."""

    def test_links(self) -> None:
        """Whoever follows a link finds a page, and the heading that it names."""
        self.assertEqual([link for page in PAGES for link in dead_links(page)], [])

    def test_machines(self) -> None:
        """No page has a path of the machine that it was written on."""
        folders = {Path.home(), Path(tempfile.gettempdir()), ROOT.parent} - NAMED
        words = re.compile("|".join(re.escape(f"{folder}/") for folder in folders))
        self.assertEqual([str(page) for page in PAGES if words.search(page.read_text("utf-8"))], [])

    def test_are_found(self) -> None:
        """The README leads to each page of docs/."""
        linked = {link.partition("#")[0] for link in _LINK.findall(prose(ROOT / "README.md"))}
        pages = {str(page.relative_to(ROOT)) for page in (ROOT / "docs").glob("*.md")}
        self.assertEqual(pages - linked, set())

    def test_decisions(self) -> None:
        """Their list has each in its order, by the number that its title has."""
        pages = sorted((ROOT / "docs/decisions").glob("0*.md"))
        rows = re.findall(r"^\| \[(\d+)\]\((.+?)\) \|", prose(ROOT / "docs/decisions/README.md"), re.MULTILINE)
        self.assertEqual([path for _, path in rows], [page.name for page in pages])
        for (number, path), page in zip(rows, pages, strict=True):
            self.assertEqual(int(path[:4]), int(number))
            self.assertTrue(page.read_text("utf-8").startswith(f"# {number}. "), path)

    def test_architecture(self) -> None:
        """It says what each package is for."""
        rows = re.findall(r"^\| (`.+?) \|", prose(ROOT / "docs/architecture.md"), re.MULTILINE)
        named = {name for row in rows for name in re.findall(r"`(\w+)`", row)}
        packages = {path.parent.name for path in (ROOT / "claudeproxyd").glob("*/__init__.py")}
        self.assertEqual(packages - named, set())

    def test_configurations(self) -> None:
        """Each block of TOML has settings that there are, with values that they take."""
        self.makers = {maker.kind: maker for maker in BUILT_IN}
        mistakes = []
        for page in PAGES:
            for block in _TOML.findall(page.read_text("utf-8")):
                if 'kind = "echo"' in block:
                    continue  # which is that page's own
                self.environ |= {name: f"https://{name}.example" for name in re.findall(r'env = "(\w+)"', block)}
                try:
                    self.load(block + ("" if "[[providers]]" in block else f"\n{SANDBOX}"))
                except ConfigError as error:
                    mistakes += [f"{page.name}: {each}" for each in error.errors if _MISTAKE.search(each.message)]
        self.assertEqual(mistakes, [])

    def test_servers(self) -> None:
        """The first configuration of each server of chat completions is taken, and leads to what is known of it."""
        self.makers = {maker.kind: maker for maker in BUILT_IN}
        self.environ["OPENAI_API_KEY"] = "sk-house"
        page = (ROOT / "docs/openai.md").read_text("utf-8")
        sample = next(iter(_TOML.findall(page)))
        known = set()
        for name, base_url, model, beside in _SERVER.findall(page):
            text = sample.replace("https://api.openai.com/v1", base_url.replace("RESOURCE", "corp"))
            text = text.replace("gpt-5.2", (_CODE.findall(model) or ["deployment"])[0])
            lines = [each for each in _CODE.findall(beside) if " = " in each]
            text = text.replace('kind = "openai-chat"\n', "\n".join(['kind = "openai-chat"', *lines, ""]))
            if "`context`" in beside:
                text = text.replace('" }]', '", context = 32768 }]')
            (section,) = self.load(text).config.providers
            host = urlsplit(section.base_url).hostname or ""
            known.add((section.own.dialect or server_of(host), name.partition(" ")[0].lower().replace(".", "")))
        self.assertEqual({server for server, _ in known}, SERVERS.keys() - {"google"})
        self.assertEqual([pair for pair in sorted(known) if pair[0] != pair[1]], [])

    def test_numbers(self) -> None:
        """Of each number of the configuration it is said what runs it at its limit, or why it holds nobody up."""
        tests = "".join(path.read_text("utf-8") for path in (ROOT / "tests/integration").glob("test_stalls*.py"))
        numbers = set()
        for section in prose(ROOT / "docs/configuration.md").split("\n###")[1:]:
            heading = section.partition("\n")[0].strip("# `")
            rows = re.findall(r"^\| `(\w+)`.*? \| (.*?) \|", section, re.MULTILINE)
            numbers |= {(heading, name) for name, kind in rows if re.search(r"\b(integer|numbers?)\b", kind)}
        said = Counter[tuple[str, str]]()
        page = prose(ROOT / "docs/decisions/0028-what-one-input-may-cost.md")
        for section, names, how in re.findall(r"^\| (.+?) \| (`\w+`(?:, `\w+`)*) \| (.+) \|$", page, re.MULTILINE):
            said.update((section.strip("`"), name) for name in re.findall(r"\w+", names))
            for test in re.findall(r"`(test_\w+)`", how):
                self.assertIn(f"async def {test}(", tests)
        self.assertGreater(len(numbers), 50)
        self.assertEqual(said, Counter(numbers))

    def test_access_list(self) -> None:
        """A Redis that grants what the page says has no command that the daemon is refused, and no other."""
        store = ROOT / "claudeproxyd/store"
        calls = [
            *re.findall(r'command\("(\w+)"(?:, "(LOAD)")?', "".join(p.read_text("utf-8") for p in store.glob("*.py"))),
            *re.findall(r"redis\.call\('(\w+)'()", (store / "limit_script.py").read_text("utf-8")),
        ]
        sent = {"|".join(filter(None, call)).lower() for call in calls}
        self.assertGreater(len(sent), 20)
        self.assertEqual(set(re.findall(r"[`\s]\+([a-z|]+)", prose(ROOT / "docs/state.md"))), sent)

    def test_fragments(self) -> None:
        """News has a name that towncrier reads, and something to say."""
        for page in sorted((ROOT / "changelog.d").glob("+*")):
            self.assertRegex(page.name, r"^\+[a-z0-9-]+\.(feature|bugfix|removal|doc|misc)\.md$")
            self.assertTrue(page.read_text("utf-8").strip(), page.name)
