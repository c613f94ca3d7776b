"""Writes ``docs/configuration.md``: prose from here, tables from the schema and from the provider kinds.

``python -m claudeproxyd.reference > docs/configuration.md``; a test holds the page to what this writes.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from dataclasses import MISSING, Field, is_dataclass
from typing import cast

from claudeproxyd.config.reading import default_of, describe, hints_of, members_of, settings_of
from claudeproxyd.config.schema import (
    Accounts,
    Aws,
    CaptureSettings,
    Client,
    CredentialSection,
    Entra,
    IssuerSection,
    LimitSection,
    Log,
    LongContextPrice,
    MintSection,
    Model,
    OAuth,
    OperatorSection,
    Plugin,
    Pool,
    PriceSection,
    Provider,
    RouteTo,
    Rule,
    Server,
    Streaming,
    Timeouts,
    Tls,
    TracesSettings,
    WebhookSection,
)
from claudeproxyd.executors.kinds import BUILT_IN
from claudeproxyd.interfaces import IExecutorMaker

SAMPLE = """\
include = ["clients.d/*.toml"]                  # more files, relative to this one

[server]
listen = ["tcp:8765:interface=0.0.0.0"]         # open to others, so there must be clients
admin = "tcp:8766:interface=127.0.0.1"

[[clients]]
name = "laptop"
key = { env = "LAPTOP_KEY" }
models = ["claude-*"]
labels = { team = "search" }

[[providers]]
name = "anthropic"
kind = "anthropic"

  [[providers.credentials]]
  name = "team-a"
  api_key = { env = "ANTHROPIC_API_KEY" }
  priority = 1                                  # before team-b, as long as it is ready

  [[providers.credentials]]
  name = "team-b"
  api_key = { file = "secrets/team-b.key" }
  max_concurrency = 20

[[providers]]
name = "gemini"
kind = "gemini"
timeouts = { first_byte = 400 }

  [[providers.credentials]]
  name = "main"
  api_key = { env = "GEMINI_API_KEY" }

  [[providers.rules]]                           # this upstream's 400s of that text are worth another try
  status = 400
  match = "try again"
  outcome = "transient"
  cooldown = 5

[[models]]
name = "claude-sonnet-*"
display_name = "Claude Sonnet"
routes = [
  { provider = "anthropic" },                   # by the name that the client asked for
  { provider = "gemini", model = "gemini-2.5-pro", max_output_tokens = 65_536, context = 1_048_576 },
]

[[models]]
name = "claude-*"
routes = [{ provider = "anthropic" }]

[pool]
strategy = "least-busy"
max_wait = 20

[log]
format = "json"
"""

_HEAD = """\
<!-- Written by `python -m claudeproxyd.reference`; change the schema, a kind's maker or that module, not this page. -->

# Configuration

One TOML file, and the files that it includes. The first of these is read:

1. the file that `--config` names,
2. the file that `$CLAUDEPROXYD_CONFIG` names,
3. `./claudeproxyd.toml`,
4. `~/.config/claudeproxyd/claudeproxyd.toml`,
5. no file: [the environment alone](#the-environment-alone).

`twistd claudeproxyd --config FILE --check` prints what a configuration amounts to, or every error in it, and starts
nothing. An error there is, too, what the user that runs it could not write: state, accounts, captures, access log,
audit, unix sockets. Files of the configuration, of secrets and of certificates are ordinary files, of at most 4 MiB,
1 MiB and 4 MiB. Durations are seconds, sizes are bytes. A setting that is left out has the default that its table
names.

## A sample
"""

_SETTINGS = """\
## Settings

Lists of model names hold globs: `*` any text, `?` one character, `[ab]` one of these. A name that is equal always
matches, and a context window at the end, as in `claude-opus-4-8[1m]`, stands for itself. No number but `priority` may
be negative. ⟳ marks a setting that a [reload](#reload) does not change.

### Top level

`include` is a list of files or globs, relative to the file that names them. An included file may include more, but
none may lead back to itself. `[[clients]]`, `[[providers]]`, `[[models]]` and their like of all files are joined:
first those of the file itself, then those of what it includes, in the order of its list and of the file names. Any
other section may stand in one file only. A glob that matches nothing draws a warning, a folder that may not be read is
an error.

### Who may call

With `[[clients]]`, whoever shows one of their keys; with `[[issuers]]`, whoever shows a
[token](accounts.md#tokens-of-others) of theirs; with a [plugin](plugins.md) that asks who calls, whom it lets in; and
whoever shows a key that was [minted](accounts.md#keys). Without any, everybody on this machine by a loopback name,
as long as the configuration never had clients: it has no `include` either, and listens on loopback alone.
`server.open = true` lets in everybody who reaches a listener; nothing else does. The first key that is minted ends
both. Where keys are only minted, say `accounts.require_keys = true`: then the daemon may listen for others without
`[[clients]]`, and a database that is lost opens nothing.

A reload opens nothing: one from some clients to none is refused, as is one that takes `admin_key` or all
`[[operators]]` away, and `open` waits for a restart. It is judged by the listeners that are there, which stay until a
restart too.
"""

_TAIL = """\
## Secrets

Wherever a table says *a secret*, there are three ways to give it:

- `{ env = "NAME" }`: the environment variable NAME. Not set or empty is an error.
- `{ file = "PATH" }`: a UTF-8 file of at most 1 MiB, less the line end at its end. A relative path starts where the
  configuration file is. `$CREDENTIALS_DIRECTORY/NAME` is what systemd brings by `LoadCredential=NAME:…`. A file that
  everyone on the machine can read draws a warning.
- `"…"`: the secret itself. A configuration file that everyone can read draws a warning then.

A client's key may also be `"sha256:<hex>"`, its digest: the daemon only has to recognise it. Make one with
`printf %s "$KEY" | sha256sum`; the digest of nothing, which that is where KEY is not set, is refused. A key of fewer
than 16 characters draws a warning, as does one that is a provider's secret too; one that is also `admin_key` is an
error. So it is with an operator's key. Paths that are no secrets (`ca_file`, `directory`, `access`, `audit`, `state`,
`database`, `waiting`) start in the daemon's working directory.

No secret is shown by `--check`, by an error, by the log or by the administration pages: they name where it comes from.

A credential holds one secret: `api_key`, `bearer_token`, `service_account`, `aws`, or `oauth` or `entra` where its kind
takes a `bearer_token`. An `api_key` or a `bearer_token` from a file is read again when the file changes. A kind that
takes none, like `sandbox`, needs no `[[providers.credentials]]`: such a provider has one credential named `default`.

## The environment alone

Without a file, each of these gives one provider, with one credential named `environment`. Variables in brackets may be
left out: the region is then `us-east-1`, the location `global`, the project the one that the key file names (if it
names none, nothing is made of it). A variable that is set but empty counts as not set.

{environment}

All else has its default, so the daemon listens on loopback only and asks for no key. Clients ask for models by the
provider's own names: with a key for Gemini alone that is `gemini-…`. A file maps other names, by `[[models]]`:
[translation](translation.md#models).

## Reload

On SIGHUP, and on `POST /admin/v1/reload`, everything is read again: files, included files, secrets, variables excepted
(a process keeps the environment that it was started with). If there is any error, or the file is gone, the running
configuration stays in force and the log says why. Otherwise one log line says what changed. Reading and checking takes
a thread; signals that come meanwhile make one more reload.

- A credential that keeps its provider and its name keeps its state: cooldowns, counters, what is in flight.
- Streams in flight are not touched.
- Settings marked ⟳ change at the next start; the log names those that differ.

## Errors

All errors are reported at once, each as `FILE:LINE: PLACE what is wrong (how to fix it)`:

```
claudeproxyd.toml:14: providers[0].credentials[1].api_kye is no setting here (did you mean "api_key"?)
claudeproxyd.toml:31: models[0].routes[1].provider there is no provider "gemni" (there are anthropic, gemini)
```

Places count from 0 within their file. The daemon does not start with an unknown setting, a wrong type, a number out of
range, a name that is taken or that nothing bears, a secret that cannot be read, settings that contradict each other, a
public listener that others can reach without `[[clients]]` or `[[issuers]]`, or an admin listener that others can reach
without `admin_key` and `[[operators]]`. It warns of what is allowed and probably not meant, such as a `[[models]]`
entry that an earlier one hides.
"""

_KINDS = """\
### Kinds

What a provider of one kind may say beside the settings of all providers. Another kind's setting is refused, unless it
is empty. A [plugin](architecture.md#another-kind-of-provider) may bring more kinds.
"""

_BEFORE_KINDS: tuple[tuple[str, type[object]], ...] = (
    ("[server]", Server),
    ("[[clients]]", Client),
    ("[[issuers]]", IssuerSection),
    ("[[operators]]", OperatorSection),
    ("mint, of an operator", MintSection),
    ("[[providers]]", Provider),
    ("[[providers.credentials]]", CredentialSection),
    ("aws, of a credential", Aws),
    ("oauth, of a credential", OAuth),
    ("entra, of a credential", Entra),
    ("tls, of a provider", Tls),
    ("[[providers.rules]]", Rule),
)
_AFTER_KINDS: tuple[tuple[str, type[object]], ...] = (
    ("[[models]]", Model),
    ("routes, of a model", RouteTo),
    ("[[plugins]]", Plugin),
    ("[pool]", Pool),
    ("[accounts]", Accounts),
    ("[[prices]]", PriceSection),
    ("long_context, of a price", LongContextPrice),
    ("[[limits]]", LimitSection),
    ("[streaming]", Streaming),
    ("[timeouts]", Timeouts),
    ("[log]", Log),
    ("[capture]", CaptureSettings),
    ("[traces]", TracesSettings),
    ("[[webhooks]]", WebhookSection),
)


def reference(makers: Sequence[IExecutorMaker]) -> str:
    """Return the whole page, with these kinds."""
    parts = [_HEAD, f"```toml\n{SAMPLE}```\n", _SETTINGS]
    parts += [_section(title, section) for title, section in _BEFORE_KINDS]
    parts += [_KINDS, *("\n".join(_kind(maker)) for maker in makers), *_tables_of_kinds(makers)]
    parts += [_section(title, section) for title, section in _AFTER_KINDS]
    return "\n".join([*parts, _TAIL.replace("{environment}", "\n".join(_environment(makers)))])


def _section(title: str, section: type[object], level: str = "###") -> str:
    heading = f"{level} `{title}`" if title.startswith("[") else f"{level} {title}"
    return "\n".join([heading, "", _about(section), "", *_table(section), ""])


def _kind(maker: IExecutorMaker) -> Iterator[str]:
    yield f"#### `{maker.kind}`"
    yield ""
    facts = [maker.about]
    facts.append(f"`base_url`: `{maker.default_base_url}`." if maker.default_base_url else "")
    if maker.credential_schema:
        facts.append(f"Its credentials hold {' or '.join(f'`{name}`' for name in maker.credential_schema)}.")
    if maker.timeouts:
        facts.append(f"Time-outs: {', '.join(f'`{name}` {seconds:g}' for name, seconds in maker.timeouts.items())}.")
    yield " ".join(filter(None, facts))
    yield ""
    for whose, section in (("Of the provider:", maker.settings), ("Of a credential:", maker.credential_settings)):
        if settings_of(section):
            yield from (whose, "", *_table(section), "")


def _tables_of_kinds(makers: Sequence[IExecutorMaker]) -> list[str]:
    """Return the sections for tables that stand in the kinds' own settings, each once."""
    titles: dict[type[object], str] = {}
    for maker in makers:
        for whose, section in (("a provider", maker.settings), ("a credential", maker.credential_settings)):
            for name, hint in hints_of(section).items():
                for member in filter(is_dataclass, members_of(hint)):
                    titles[cast(type[object], member)] = f"{name}, of {whose}"
    return [_section(title, section, "####") for section, title in titles.items()]


def _environment(makers: Sequence[IExecutorMaker]) -> Iterator[str]:
    yield "| provider | kind | variables |"
    yield "|---|---|---|"
    for maker in makers:
        if maker.environment_doc is not None:
            name, variables = maker.environment_doc
            yield f"| `{name}` | `{maker.kind}` | {variables} |"


def _about(section: type[object]) -> str:
    _, _, about = (section.__doc__ or "").partition(": ")
    return _sentence(about)


def _table(section: type[object]) -> Iterator[str]:
    yield "| setting | type | default | what for |"
    yield "|---|---|---|---|"
    hints = hints_of(section)
    for each in settings_of(section):
        mark = " ⟳" if each.metadata.get("restart") else ""
        row = (f"`{each.name}`{mark}", _type(hints[each.name], each), _default(each), each.metadata["doc"])
        yield "| " + " | ".join(cell.replace("|", r"\|") for cell in row) + " |"


def _sentence(text: str) -> str:
    text = " ".join(text.split()).replace("``", "`")
    return text[:1].upper() + text[1:]


def _type(hint: object, each: Field[object]) -> str:
    choices = [f"`{choice}`" for choice in each.metadata["choices"] if choice]
    numbers = [member for member in members_of(hint) if member in (int, float)]
    if not choices or numbers:
        least = each.metadata.get("least")
        choices.append(describe(numbers[0] if choices else hint) + (f" from {least} up" if numbers and least else ""))
    return ", ".join(choices)


def _default(each: Field[object]) -> str:
    default = default_of(each)
    if default is MISSING:
        return "**required**"
    if default is None or is_dataclass(default):
        return ""
    return f"`{_toml(default)}`"


def _toml(value: object) -> str:
    """Return a default as TOML."""
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, int):
        return f"{value:_}" if value > 9999 else str(value)
    if isinstance(value, float):
        return str(value)
    if isinstance(value, list):
        return f"[{', '.join(_toml(item) for item in value)}]"
    return f'"{value}"' if isinstance(value, str) else "{}"


if __name__ == "__main__":
    sys.stdout.write(reference(BUILT_IN))
