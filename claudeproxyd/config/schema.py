"""Every section and setting that an operator can write: names, types, defaults, and what each is for.

The loader checks a TOML file against these classes, ``docs/configuration.md`` is written from them, and the rest of the
house reads its settings from their instances. Durations are seconds, sizes are bytes.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from claudeproxyd.config.secret import Secret


def setting(default: Any, doc: str) -> Any:
    """A dataclass field with what it is for; list and dict defaults are copied for each instance."""
    if isinstance(default, (list, dict)):
        return field(default_factory=lambda: type(default)(default), metadata={"doc": doc})
    if isinstance(default, type):
        return field(default_factory=default, metadata={"doc": doc})
    return field(default=default, metadata={"doc": doc})


def required(doc: str) -> Any:
    """A setting without a default."""
    return field(metadata={"doc": doc})


@dataclass(frozen=True, kw_only=True)
class Server:
    """``[server]``: what listens, and the bounds on what comes in."""

    listen: list[str] = setting(
        ["tcp:8765:interface=127.0.0.1"],
        "Twisted endpoint strings of the public listener; ssl:, unix: and systemd: work too.",
    )
    admin: str = setting(
        "tcp:8766:interface=127.0.0.1", 'Administration and metrics; never on the public listener. "" turns it off.'
    )
    admin_key: Secret | None = setting(None, "Needed when `admin` listens beyond loopback.")
    state: str = setting(
        "sqlite:~/.local/state/claudeproxyd/state.db",
        'Where the pool\'s state lives: sqlite:PATH, "memory:" or redis://host:port/0.',
    )
    max_request_bytes: int = setting(33_554_432, "The largest request body, before and after decompression.")
    max_connections: int = setting(10_000, "Client connections at once.")
    max_buffered_bytes: int = setting(
        536_870_912,
        "Bodies and unfinished frames of all requests together; above it new bodies get 529 with retry-after.",
    )
    drain: float = setting(600.0, "How long streams may go on after SIGTERM; a long answer outlives a deploy.")
    ratelimit_headers: str = setting(
        "auto",
        "anthropic-ratelimit-* towards clients: pass, strip, or auto: pass where the provider has one credential.",
    )
    cors_origins: list[str] = setting([], "Web pages that may call; none by default.")
    trusted_proxies: list[str] = setting([], "Addresses or networks whose X-Forwarded-For is believed.")


@dataclass(frozen=True, kw_only=True)
class Client:
    """``[[clients]]``: who may call. None at all is fine on loopback only."""

    name: str = required("Unique; shown in logs and usage records.")
    key: Secret = required('A secret: { env = … }, { file = … }, a plain string, or "sha256:<hex>".')
    models: list[str] = setting(["*"], "Globs of what it may ask for; /v1/models shows it no more.")
    max_concurrency: int = setting(0, "Requests at once; 0: no limit.")
    labels: dict[str, str] = setting({}, "Carried into logs and usage records.")


@dataclass(frozen=True, kw_only=True)
class Aws:
    """A credential's ``aws`` table."""

    access_key_id: Secret = required("The key's id.")
    secret_access_key: Secret = required("The key itself.")
    session_token: Secret | None = setting(None, "Of temporary credentials.")


@dataclass(frozen=True, kw_only=True)
class Credential:
    """``[[providers.credentials]]``: one secret that the provider accepts."""

    name: str = required("Unique in its provider; shown in logs instead of the secret.")
    api_key: Secret | None = setting(None, "The provider's API key.")
    bearer_token: Secret | None = setting(None, "A token for Authorization: Bearer.")
    service_account: Secret | str | None = setting(
        None, 'vertex: { file = "sa.json" }, or "adc" for application default credentials.'
    )
    aws: Aws | str | None = setting(None, 'bedrock: { access_key_id, secret_access_key, session_token }, or "chain".')
    weight: int = setting(1, "For the weighted strategy.")
    priority: int = setting(0, "Higher first.")
    max_concurrency: int = setting(0, "Attempts at once; 0: no limit.")
    models: list[str] = setting(["*"], "Globs of upstream model names, narrower than the provider's.")
    project: str = setting("", "vertex: the project.")
    location: str = setting("", "vertex: the location.")
    region: str = setting("", "bedrock: the region.")


@dataclass(frozen=True, kw_only=True)
class Betas:
    """``betas``: changes to the anthropic-beta header on its way up."""

    drop: list[str] = setting([], "Betas that this upstream does not take.")
    add: list[str] = setting([], "Betas that are always sent.")


@dataclass(frozen=True, kw_only=True)
class Tls:
    """``tls``: how the upstream's certificate is checked."""

    ca_file: str = setting("", "A PEM file of authorities, instead of the system's.")
    verify: bool = setting(True, "false takes any certificate: for tests alone.")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``[[providers.rules]]``: an operator's own reading of an upstream's answer; asked before all tables, first match wins."""

    outcome: str = required("What it is: transient, client_fault, quota …")
    status: int = setting(0, "The status it applies to; 0: any.")
    match: str = setting("", "A regular expression that the body must contain; empty: any.")
    cooldown: float = setting(0.0, "Seconds; 0: as the outcome has it.")
    scope: str = setting("", "model, credential, model_on_provider, provider or none; empty: as the outcome has it.")


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """``[timeouts]``: every wait for an upstream or for a client's request. 0: none."""

    connect: float = setting(10.0, "To connect, TLS included.")
    first_byte: float = setting(
        120.0,
        "To the head of an upstream's answer, streams. 300 where a provider's kind sends its head with the first token:"
        " gemini, vertex, openai-*.",
    )
    first_byte_whole: float = setting(540.0, "The same, not streamed; below the clients' own 600.")
    content: float = setting(900.0, "To the first content event of a stream, pings or not.")
    idle: float = setting(300.0, "Between two upstream bytes.")
    total: float = setting(0.0, "Of the whole request; 0: none.")
    request_head: float = setting(20.0, "Absolute, for a client to send its head.")
    request_body: float = setting(60.0, "Without progress, for a client to send its body.")


@dataclass(frozen=True, kw_only=True)
class Provider:
    """``[[providers]]``: one upstream API: a kind, a base URL, its credentials."""

    name: str = required("Unique.")
    kind: str = required("anthropic, gemini, vertex, openai-chat, openai-responses, bedrock or sandbox.")
    base_url: str = setting(
        "",
        "A default for each kind but openai-chat; as in the clients' own variables: anthropic and gemini without a version, openai-* with /v1.",
    )
    headers: dict[str, str] = setting({}, "Added to each upstream request; a value may hold {client}.")
    betas: Betas = setting(Betas, "Changes to the anthropic-beta header.")
    drop_fields: list[str] = setting([], "Top-level request fields that this upstream does not take.")
    max_concurrency: int = setting(0, "Attempts at once; 0: no limit.")
    max_connections: int = setting(0, "Connections at once; 0: no limit.")
    timeouts: dict[str, float] = setting({}, "Overrides of [timeouts].")
    proxy: str = setting("", 'http://user:pass@host:port (CONNECT for https), or "env".')
    tls: Tls = setting(Tls, "How its certificate is checked.")
    models: list[str] = setting(["*"], "Globs of upstream model names that it serves.")
    rules: list[Rule] = setting([], "The operator's own reading of its answers.")
    credentials: list[Credential] = setting([], "Its credentials.")


@dataclass(frozen=True, kw_only=True)
class RouteTo:
    """One entry of a model's ``routes``."""

    provider: str = required("A provider's name.")
    model: str = setting("", "That provider's model; left out: the client's own name.")
    max_output_tokens: int = setting(0, "The model's output limit, where known.")
    context: int = setting(0, "The model's context window, where known.")


@dataclass(frozen=True, kw_only=True)
class Model:
    """``[[models]]``: a name or glob that clients ask for. None: every name goes to each provider whose `models` matches."""

    name: str = required("What clients ask for; globs; the first match wins.")
    routes: list[RouteTo] = setting(
        [], "In order: the next is used when no candidate of the one before is left, or it cannot carry the request."
    )
    list: bool = setting(True, "Shown in /v1/models (a glob is never shown).")
    display_name: str = setting("", "For people.")


@dataclass(frozen=True, kw_only=True)
class Pool:
    """``[pool]``: how credentials are chosen, waited for and given up."""

    strategy: str = setting("round-robin", "round-robin, weighted, fill-first or least-busy.")
    affinity: bool = setting(True, "A session keeps its credential for a model while that one is ready.")
    affinity_ttl: float = setting(3600.0, "How long an affinity outlives its last use.")
    max_attempts: int = setting(6, "Upstream attempts for one request.")
    max_wait: float = setting(30.0, "How long a request may wait for a cooling credential.")
    queue: int = setting(1000, "How many may wait.")
    max_cooldown: float = setting(3600.0, "Cap on what an upstream may ask for.")
    retry_after_max: int = setting(60, "Cap on the retry-after that clients are told …")
    give_up_after: float = setting(300.0, "… unless everything is out for longer than this.")
    retry_budget: float = setting(0.2, "Retries as a share of requests, over 10 s, with a floor of 10.")


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """``[streaming]``: how streams are kept alive, and when they are given up."""

    head_commit: float = setting(
        45.0, "A stream without a content event for so long gets its 200 and pings; must exceed pool.max_wait."
    )
    keepalive: float = setting(
        10.0, "After that: seconds of silence towards the client before a ping; 0 turns pings off."
    )
    nonstream_keepalive: float = setting(0.0, "Blanks ahead of a JSON body; costs the real status, so off.")
    stall: float = setting(60.0, "A client that takes nothing for so long is cut.")
    max_event_bytes: int = setting(33_554_432, "The largest event.")


@dataclass(frozen=True, kw_only=True)
class Log:
    """``[log]``: the daemon's own log and the access log."""

    format: str = setting("text", "text or json.")
    level: str = setting("info", "debug, info, warn or error.")
    access: str = setting(
        "", 'Where the line of each request goes: "" to the daemon\'s log, "off", or a file, which SIGHUP reopens.'
    )


@dataclass(frozen=True, kw_only=True)
class Capture:
    """``[capture]``: whole requests and answers, for finding faults; holds prompts, so off."""

    when: str = setting("never", "never, errors (status from 400 up, broken streams) or always.")
    directory: str = setting(
        "~/.local/state/claudeproxyd/captures",
        "One file a request, mode 0600, secrets masked; written off the reactor.",
    )
    max_bytes: int = setting(1_048_576, "Of each body, then a mark.")
    keep: int = setting(100, "Files.")


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration file."""

    include: list[str] = setting([], "More files, as globs relative to this one.")
    server: Server = setting(Server, "What listens.")
    clients: list[Client] = setting([], "Who may call.")
    providers: list[Provider] = setting([], "The upstreams.")
    models: list[Model] = setting([], "Model names and where they lead.")
    pool: Pool = setting(Pool, "Choosing credentials.")
    streaming: Streaming = setting(Streaming, "Keeping streams alive.")
    timeouts: Timeouts = setting(Timeouts, "Every wait.")
    log: Log = setting(Log, "Logs.")
    capture: Capture = setting(Capture, "Captures.")
