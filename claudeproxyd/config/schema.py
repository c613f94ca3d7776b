"""Every section and setting that an operator can write: names, types, defaults, bounds, and what each is for.

The loader checks a TOML file against these classes, ``docs/configuration.md`` is written from them, and the rest of the
house reads its settings from their instances. Durations are seconds, sizes are bytes. What one provider kind alone has
is in classes of the same form, beside its executor: see ``own`` of :class:`Provider` and :class:`CredentialSection`.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from claudeproxyd.config.cores import usable_cores
from claudeproxyd.config.secret import Secret
from claudeproxyd.config.setting import required, setting
from claudeproxyd.happenings import Happening
from claudeproxyd.outcomes.classify import FOR_RULES
from claudeproxyd.outcomes.types import Scope


@dataclass(frozen=True, kw_only=True)
class Server:
    """``[server]``: what listens, and the bounds on what comes in."""

    listen: list[str] = setting(
        ["tcp:8765:interface=127.0.0.1"],
        "Twisted endpoint strings of the public listener; ssl:, unix: and systemd: work too.",
        restart=True,
    )
    admin: str = setting(
        "tcp:8766:interface=127.0.0.1",
        'Administration and metrics; never on the public listener. "" turns it off.',
        restart=True,
    )
    admin_key: Secret | None = setting(
        None,
        "Of an operator who may do everything. It, or [[operators]], are needed when `admin` listens beyond loopback.",
    )
    state: str = setting(
        "sqlite:~/.local/state/claudeproxyd/state.db",
        'Where the pool\'s state lives: sqlite:PATH, "memory:" or redis://host:port/0; see [state](state.md). Services'
        " have [another default](state.md#where-it-is-by-default).",
        restart=True,
        shown=False,
    )
    max_request_bytes: int = setting(
        33_554_432,
        "The largest request body, before and after decompression; above 4 MiB it may not be 100 times larger after.",
        least=1,
    )
    max_connections: int = setting(10_000, "Client connections at once.", least=1)
    max_buffered_bytes: int = setting(
        536_870_912,
        "Bodies, and unfinished or untaken frames and answers, of all requests; above it new bodies get 529 with"
        " retry-after. One client's bodies may take four times what they leave free.",
        least=1,
    )
    drain: float = setting(600.0, "How long streams may go on after SIGTERM; a long answer outlives a deploy.")
    lame_duck: float = setting(
        0.0,
        "After SIGTERM /readyz says 503 for so long, and everything is served as ever, before the listener closes:"
        " time for a balancer to look.",
    )
    ratelimit_headers: str = setting(
        "auto",
        "anthropic-ratelimit-* headers towards clients. auto: pass where the provider has one credential.",
        choices=("auto", "pass", "strip"),
    )
    cors_origins: list[str] = setting([], "Web pages that may call; none by default.")
    trusted_proxies: list[str] = setting([], "Addresses or networks whose X-Forwarded-For is believed.")
    workers: int | str = setting(
        1,
        'Processes that serve, as one daemon; "auto": one for each core that it may use. See [workers](workers.md).',
        least=1,
        choices=("auto",),
        restart=True,
    )
    open: bool = setting(
        False,
        "true: anybody who reaches the listener may call, without a key. Else that holds on loopback alone, and only"
        " where there is neither [[clients]] nor include, and no plugin that asks who calls.",
        restart=True,
    )

    @property
    def processes(self) -> int:
        """How many serve."""
        return self.workers if isinstance(self.workers, int) else usable_cores()


@dataclass(frozen=True, kw_only=True)
class Client:
    """``[[clients]]``: who may call. None at all is fine on loopback only, where ``server.open`` says so, or where a
    plugin asks who calls."""

    name: str = required("Unique; shown in logs and usage records.")
    key: Secret = required('What it shows; a secret, or its digest as `"sha256:<hex>"`.', digest=True)
    models: list[str] = setting(["*"], "Globs of what it may ask for; /v1/models shows it no more.")
    max_concurrency: int = setting(0, "Requests at once; 0: no limit.")
    labels: dict[str, str] = setting({}, "Carried into logs and usage records.")


@dataclass(frozen=True, kw_only=True)
class IssuerSection:
    """``[[issuers]]``: whose tokens let in beside keys: JSON Web Tokens of OpenID Connect; see
    [accounts](accounts.md#tokens-of-others)."""

    url: str = required("What its tokens have as `iss`, to the letter. Its keys are found by discovery from there.")
    audience: str | list[str] = required("What their `aud` has to hold, or one of these.")
    algorithms: list[str] = setting(
        ["RS256", "ES256"],
        "What they may be signed by.",
        choices=("RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512"),
    )
    jwks_url: str = setting("", "Where its keys are, without discovery.")
    jwks: Secret | None = setting(
        None, '{ file = "keys.json" }: its keys in a file, which is read anew like the others.'
    )
    name: str = setting("sub", "The claim that says who it is; `groups.0` is the first of a list. Never an address.")
    prefix: str = setting("", "Goes before each name; needed where there are several issuers.")
    labels: dict[str, str] = setting({}, "Labels, and the claims that they come from.")
    models: list[str] = setting(["*"], "Globs of what they may ask for.")
    models_claim: str = setting("", "A claim with globs in the place of `models`, for tokens that have it.")
    require: dict[str, str] = setting({}, "Claims, and globs of what they have to hold; who lacks one may not call.")
    max_concurrency: int = setting(0, "Requests at once of each name; 0: no limit.")
    leeway: float = setting(30.0, "By how much clocks may differ.")
    refresh: float = setting(
        300.0, "From one fetch of the keys to the next: so long a key lives that was taken out.", least=10
    )
    hold: float = setting(86_400.0, "How long the last keys hold while the issuer is away.")
    proxy: str = setting("", 'http://user:pass@host:port to the issuer, or "env".', shown=False)
    ca_file: str = setting("", "A PEM file of authorities, instead of the system's.")


@dataclass(frozen=True, kw_only=True)
class MintSection:
    """``mint``: the keys that an operator may mint, list, rotate and revoke who may not do everything."""

    labels: dict[str, str] = required("Exactly those that their keys have.")
    names: list[str] = setting(["*"], "Globs of their names.")
    models: list[str] = setting(["*"], "Globs of the models that they may ask for at most.")
    max_concurrency: int = setting(0, "Requests at once of each, at most; 0: no bound.")
    longest: float = setting(0.0, "How long each may be valid, at most; 0: no bound.")


@dataclass(frozen=True, kw_only=True)
class OperatorSection:
    """``[[operators]]``: who may administrate, and how far; see [operation](operations.md#operators)."""

    name: str = required("Unique; shown in the audit lines.")
    key: Secret = required('What it shows; a secret, or its digest as `"sha256:<hex>"`.', digest=True)
    role: str = required(
        "mint: the keys of `mint` and nothing else. metrics: /metrics alone. read: all that can be seen. operate: all"
        " that can be done.",
        choices=("mint", "metrics", "read", "operate"),
    )
    mint: MintSection | None = setting(
        None, "{ labels, names, models, max_concurrency, longest }: the keys that it may mint, without operating."
    )


@dataclass(frozen=True, kw_only=True)
class Aws:
    """``aws``: a key pair of AWS, or where keys come from."""

    access_key_id: Secret | None = setting(None, "The key's id.")
    secret_access_key: Secret | None = setting(None, "The key itself.")
    session_token: Secret | None = setting(None, "Of temporary credentials.")
    profile: str = setting("", "A profile of ~/.aws/config and ~/.aws/credentials, instead of keys.")
    role_arn: str = setting("", "A role that is assumed with these keys, with the profile's, or with the chain's.")


@dataclass(frozen=True, kw_only=True)
class OAuth:
    """``oauth``: a refresh token (RFC 6749), which bearer tokens are fetched with; where the kind takes those."""

    token_url: str = required("The token endpoint.")
    client_id: str = required("The client that the refresh token was issued to.")
    client_secret: Secret | None = setting(None, "Its secret, if it has one.")
    refresh_token: Secret = required(
        "A new one that the endpoint gives is kept in the state, encrypted; see [state](state.md)."
    )


@dataclass(frozen=True, kw_only=True)
class Entra:
    """``entra``: an application of Microsoft Entra ID, for bearer tokens; where the kind takes those."""

    tenant_id: str = required("The directory's id or domain.")
    client_id: str = required("The application's id.")
    client_secret: Secret | None = setting(None, "The value of a secret of its registration.")
    certificate: Secret | None = setting(
        None, 'Instead of the secret: a private key and its certificate in PEM, such as { file = "app.pem" }.'
    )
    scope: str = setting(
        "https://cognitiveservices.azure.com/.default", "What the tokens are for: Azure OpenAI and Microsoft Foundry."
    )
    authority: str = setting("https://login.microsoftonline.com", "Another one for a national cloud.")


@dataclass(frozen=True, kw_only=True)
class CredentialSection:
    """``[[providers.credentials]]``: one secret that the provider accepts."""

    name: str = required("Unique in its provider; shown in logs instead of the secret.")
    api_key: Secret | None = setting(None, "The provider's API key.")
    bearer_token: Secret | None = setting(None, "A token for Authorization: Bearer.")
    service_account: Secret | str | None = setting(
        None, '{ file = "sa.json" }, or "adc" for application default credentials of Google Cloud.'
    )
    aws: Aws | str | None = setting(
        None,
        '{ access_key_id, secret_access_key, session_token }, { profile } or { role_arn }; or "chain": what AWS\'s own'
        " tools would take.",
    )
    oauth: OAuth | None = setting(
        None, "{ token_url, client_id, client_secret, refresh_token }: tokens like bearer_token."
    )
    entra: Entra | None = setting(
        None, "{ tenant_id, client_id, client_secret }: tokens of Microsoft Entra ID like bearer_token."
    )
    weight: int = setting(1, "Its share under the weighted strategy.", least=1)
    priority: int = setting(0, "Higher first.", least=None)
    max_concurrency: int = setting(0, "Attempts at once; 0: no limit.")
    models: list[str] = setting(["*"], "Globs of upstream model names, narrower than the provider's.")
    disabled: bool = setting(False, "Out of service, whatever was said at run time.")
    own: Any = field(default=None)
    """No setting: an instance of its kind's ``credential_settings``, read from the same table."""


@dataclass(frozen=True, kw_only=True)
class Tls:
    """``tls``: how the upstream's certificate is checked."""

    ca_file: str = setting("", "A PEM file of authorities, instead of the system's.")
    verify: bool = setting(True, "false takes any certificate: for tests alone.")


@dataclass(frozen=True, kw_only=True)
class Rule:
    """``[[providers.rules]]``: an operator's own reading of an upstream's failure; asked first, first match wins."""

    outcome: str = required(
        "What it is.",
        choices=tuple(FOR_RULES),
    )
    status: int = setting(0, "The status it applies to; 0: any.")
    match: str = setting(
        "",
        "A regular expression, without look-around and back-references, that is searched for in the first 2 KiB of the"
        " body; empty: any body.",
    )
    cooldown: float = setting(0.0, "How long it cools; 0: as the outcome has it.")
    scope: str = setting(
        "", "What cools; empty: as the outcome has it.", choices=("", *(scope.value for scope in Scope))
    )


@dataclass(frozen=True, kw_only=True)
class Timeouts:
    """``[timeouts]``: every wait for an upstream or for a client's request. 0: none."""

    connect: float = setting(10.0, "To connect, TLS included.")
    first_byte: float = setting(
        120.0,
        "To the head of an upstream's answer, streams. Unless changed here, 300 where a provider's [kind](#kinds) sends"
        " its head with the first token.",
    )
    first_byte_whole: float = setting(540.0, "The same, not streamed; below the clients' own 600.")
    content: float = setting(
        900.0,
        "To the first content event of a stream, pings or not; and from the head of an answer that is not streamed to"
        " its end, blanks or not.",
    )
    idle: float = setting(300.0, "Between two upstream bytes.")
    total: float = setting(0.0, "Of the whole request; 0: none.")
    request_head: float = setting(20.0, "Absolute, for a client to send its head.")
    request_body: float = setting(
        60.0, "Without progress, for a client to send its body; in all, so long and a second for each 32 KiB."
    )


@dataclass(frozen=True, kw_only=True)
class Provider:
    """``[[providers]]``: one upstream API: a kind, a base URL, its credentials."""

    name: str = required("Unique.")
    kind: str = required("What it speaks; see [kinds](#kinds).")
    base_url: str = setting(
        "",
        "Most kinds have a default; with or without a version as in the clients' own variables. What the kind adds"
        " itself, such as /v1/messages, is taken off its end.",
    )
    headers: dict[str, str] = setting({}, "Added to each upstream request; a value may hold {client}.", shown=False)
    max_concurrency: int = setting(0, "Attempts at once; 0: no limit.")
    max_connections: int = setting(0, "Connections at once; 0: no limit.")
    timeouts: dict[str, float] = setting({}, "Overrides of [timeouts].")
    proxy: str = setting("", 'http://user:pass@host:port (CONNECT for https), or "env".', shown=False)
    tls: Tls = setting(Tls, "How its certificate is checked.")
    models: list[str] = setting(["*"], "Globs of upstream model names that it serves.")
    rules: list[Rule] = setting([], "The operator's own reading of its answers.")
    credentials: list[CredentialSection] = setting([], "Its credentials.")
    own: Any = field(default=None)
    """No setting: an instance of its kind's ``settings``, read from the same table; None where the kind is unknown."""


@dataclass(frozen=True, kw_only=True)
class RouteTo:
    """``routes``: the providers that serve it, in order."""

    provider: str = required("A provider's name.")
    model: str = setting("", "That provider's model; left out: the client's own name.")
    max_output_tokens: int = setting(0, "The model's output limit, where known.")
    context: int = setting(0, "The model's context window, where known: a larger request is not sent there.")
    thinking: str = setting(
        "",
        "What a request without `thinking` gets of a model that is not Claude's; left out: as little as the model can,"
        ' as with Claude; "default": what it does by itself.',
        choices=("", "default"),
    )


@dataclass(frozen=True, kw_only=True)
class Model:
    """``[[models]]``: a name or glob that clients ask for, and where it leads.

    None: every name goes to each provider whose ``models`` matches, in file order.
    """

    name: str = required("What clients ask for; globs. A name that is equal wins, then the first that matches.")
    routes: list[RouteTo] = setting(
        [], "In order: the next is used when no candidate of the one before is left, or it cannot carry the request."
    )
    list: bool = setting(True, "Shown in /v1/models (a glob is never shown).")
    display_name: str = setting("", "For people.")
    description: str = setting("", "For people too: the line below the name in Claude Code's /model.")


@dataclass(frozen=True, kw_only=True)
class Plugin:
    """``[[plugins]]``: a step in the way of requests that another package brings; see [plugins](plugins.md).

    Hooks, limits, usage sinks and authenticators are such. They are asked in the order of their sections. What a
    section has beside `kind` are the plugin's own settings.
    """

    kind: str = required("Which one; a kind that no installed package brings is an error.")
    own: Any = field(default=None)
    """No setting: an instance of its kind's ``settings``, read from the same table; None where the kind is unknown."""
    authenticates: bool = field(default=False)
    """No setting: its kind says that it is an authenticator."""


@dataclass(frozen=True, kw_only=True)
class Pool:
    """``[pool]``: how credentials are chosen, waited for and given up."""

    strategy: str = setting(
        "round-robin",
        "Which of the ready credentials of one priority is next.",
        choices=("round-robin", "weighted", "fill-first", "least-busy"),
    )
    affinity: bool = setting(True, "A session keeps its credential for a model while that one is ready.")
    affinity_ttl: float = setting(3600.0, "How long an affinity outlives its last use.")
    max_attempts: int = setting(10, "Upstream attempts for one request.", least=1)
    max_wait: float = setting(30.0, "How long a request may wait for a cooling credential, each time.")
    queue: int = setting(1000, "How many may wait; where it is full, the client with the most gives a place up.")
    max_cooldown: float = setting(3600.0, "Cap on what an upstream may ask for.")
    retry_after_max: int = setting(60, "Cap on the retry-after that clients are told …", least=1)
    give_up_after: float = setting(300.0, "… unless everything is out for longer than this.")
    retry_budget: float = setting(0.0, "A fuse: retries as a share of requests, over 10 s, with a floor of 10; 0: off.")


@dataclass(frozen=True, kw_only=True)
class Streaming:
    """``[streaming]``: how streams are kept alive, and when they are given up."""

    head_commit: float = setting(
        45.0,
        "A stream without a content event for so long gets its 200 and pings; must exceed pool.max_wait.",
        least=0.01,
    )
    keepalive: float = setting(
        10.0, "After that: seconds of silence towards the client before a ping; 0 turns pings off."
    )
    nonstream_keepalive: float = setting(0.0, "Blanks ahead of a JSON body; costs the real status, so off.")
    stall: float = setting(60.0, "A client that takes nothing for so long is cut.", least=0.01)
    max_event_bytes: int = setting(33_554_432, "The largest event.", least=1)


@dataclass(frozen=True, kw_only=True)
class Log:
    """``[log]``: the daemon's own log and the access log."""

    format: str = setting("text", "How lines look.", choices=("text", "json"), restart=True)
    level: str = setting("info", "The least that is logged.", choices=("debug", "info", "warn", "error"))
    access: str = setting(
        "", 'Where the line of each request goes: "" to the daemon\'s log, "off", or a file, which SIGHUP reopens.'
    )
    audit: str = setting(
        "",
        'Where the line of each action of an operator goes: "" to the daemon\'s log, or a file, which SIGHUP reopens.',
        restart=True,
    )


@dataclass(frozen=True, kw_only=True)
class CaptureSettings:
    """``[capture]``: whole requests and answers, for finding faults; holds prompts, so off."""

    when: str = setting(
        "never",
        "Which requests. errors: a status from 400 up, or a broken stream.",
        choices=("never", "errors", "always"),
    )
    directory: str = setting(
        "~/.local/state/claudeproxyd/captures",
        "One file a request, mode 0600, secrets masked; written off the reactor. By default beside the state.",
    )
    max_bytes: int = setting(1_048_576, "Of each body, then a mark.")
    keep: int = setting(100, "How many files; the oldest goes.", least=1)


@dataclass(frozen=True, kw_only=True)
class Accounts:
    """``[accounts]``: the ledger of what was used, and keys that are minted; see [accounts](accounts.md)."""

    database: str = setting(
        "sqlite:~/.local/state/claudeproxyd/accounts.db",
        'Where the ledger and minted keys are: sqlite:PATH, or postgresql://user@host/name; "" keeps none.'
        " By default beside the state.",
        restart=True,
        shown=False,
    )
    password: Secret | None = setting(None, "Of PostgreSQL's user, where `database` has none.", restart=True)
    waiting: str = setting(
        "",
        "The folder of records that are not in the database yet; left out: beside the SQLite file, or with PostgreSQL"
        " where the state would be.",
        restart=True,
    )
    require_keys: bool = setting(
        False,
        "true: nobody calls without a key, also where there are no [[clients]], since keys are"
        " [minted](accounts.md#keys).",
    )
    keep: float = setting(90.0, "Days of single attempts; the totals of days stay.", least=1)


@dataclass(frozen=True, kw_only=True)
class LongContextPrice:
    """``long_context``: what all tokens of a request cost that has more input than the price around is for."""

    above: int = required("Tokens of input, caches included, beyond which this is the price.", least=1)
    input: float = required("As of the price around.")
    output: float = required("As of the price around.")
    cache_read: float | None = setting(None, "Left out: as its input.")
    cache_write: float | None = setting(None, "Left out: as its input.")
    cache_write_1h: float | None = setting(None, "Left out: as its cache_write.")


@dataclass(frozen=True, kw_only=True)
class PriceSection:
    """``[[prices]]``: what a model costs, in USD for a million tokens; the first that matches.

    They go before the published ones that the extra `claudeproxyd[prices]` brings.
    """

    model: str = required("A glob of names that clients ask for, or of the provider's own.")
    provider: str = setting("*", "A glob of providers.")
    input: float = required("Tokens of input that no cache had.")
    output: float = required("Tokens of output, with thinking.")
    cache_read: float | None = setting(None, "Tokens read from a cache; left out: as input.")
    cache_write: float | None = setting(None, "Tokens written to a cache; left out: as input.")
    cache_write_1h: float | None = setting(None, "Of these, what is kept for an hour; left out: as cache_write.")
    long_context: LongContextPrice | None = setting(
        None, "{ above, input, output, … }: what it costs with more input than that; left out: the same."
    )
    since: str = setting("", 'The first day of it (UTC), as "2026-12-01"; left out: always.')


@dataclass(frozen=True, kw_only=True)
class LimitSection:
    """``[[limits]]``: how much may be used, by whom; see [accounts](accounts.md#limits). Each has one amount."""

    name: str = required("Unique; whoever is refused reads it.")
    match: dict[str, str | dict[str, str]] = setting(
        {}, "Globs by client, label.NAME, model (as asked for) and provider; all have to match. Left out: everything."
    )
    each: str = setting("", "A counter for each client, label.NAME or model; left out: one for all.")
    usd: float = setting(0.0, "Dollars, by the prices. What has no price counts nothing.")
    tokens: int = setting(0, "Tokens of input, caches included, and output.")
    input_tokens: int = setting(0, "Tokens of input, caches included.")
    output_tokens: int = setting(0, "Tokens of output.")
    requests: int = setting(0, "Requests, but for count_tokens.")
    per: str = required(
        "minute and hour refill steadily; day, week (from Monday) and month are windows.",
        choices=("minute", "hour", "day", "week", "month"),
    )
    zone: str = setting("UTC", 'The time zone of windows, as "Europe/Berlin".')
    warn: float = setting(0.8, "The share from which on the log warns, once; 0: never.")


@dataclass(frozen=True, kw_only=True)
class TracesSettings:
    """``[traces]``: a span for each request and one for each attempt, sent to a collector; see [traces](traces.md)."""

    endpoint: str = setting(
        "",
        'Where they go, by OTLP over HTTP, such as "http://127.0.0.1:4318"; without a path /v1/traces is added. "":'
        " traces are off.",
    )
    headers: dict[str, Secret] = setting({}, "Sent along, such as a key; each value is a secret.")
    sample: float = setting(1.0, "The share of requests that are traced, from 0 to 1.")
    trust: str = setting(
        "clients",
        "Whose traceparent says itself whether a request is traced. clients: of everybody, where all show a key; none:"
        " of nobody, and sample says.",
        choices=("clients", "all", "none"),
    )
    propagate: bool = setting(True, "Requests go upstream with a traceparent.")
    service_name: str = setting("claudeproxyd", "service.name of the spans.")
    proxy: str = setting("", 'http://user:pass@host:port, for https, or "env".', shown=False)


@dataclass(frozen=True, kw_only=True)
class WebhookSection:
    """``[[webhooks]]``: who is told what happens, by a POST of JSON; see [webhooks](webhooks.md)."""

    name: str = required("Unique; shown in logs and metrics instead of the URL.")
    url: Secret = required("Where it goes: a secret, since many such URLs are all that it takes to post.")
    secret: Secret | None = setting(
        None, 'What requests are signed with, as Standard Webhooks has it: any text, or "whsec_" and base64.'
    )
    events: list[str] = setting([happening.value for happening in Happening], "What is told; all by default.")
    proxy: str = setting("", 'http://user:pass@host:port, for https, or "env".', shown=False)


@dataclass(frozen=True, kw_only=True)
class Config:
    """A whole configuration."""

    include: list[str] = setting([], "More files, as globs relative to this one.")
    server: Server = setting(Server, "What listens.")
    clients: list[Client] = setting([], "Who may call.")
    issuers: list[IssuerSection] = setting([], "Whose tokens let in.")
    operators: list[OperatorSection] = setting([], "Who may administrate.")
    providers: list[Provider] = setting([], "The upstreams.")
    models: list[Model] = setting([], "Model names and where they lead.")
    plugins: list[Plugin] = setting([], "Steps in the way of requests.")
    accounts: Accounts = setting(Accounts, "The ledger.")
    prices: list[PriceSection] = setting([], "What models cost.")
    limits: list[LimitSection] = setting([], "Who may use how much.")
    pool: Pool = setting(Pool, "Choosing credentials.")
    streaming: Streaming = setting(Streaming, "Keeping streams alive.")
    timeouts: Timeouts = setting(Timeouts, "Every wait.")
    log: Log = setting(Log, "Logs.")
    capture: CaptureSettings = setting(CaptureSettings, "Captures.")
    traces: TracesSettings = setting(TracesSettings, "Traces.")
    webhooks: list[WebhookSection] = setting([], "Who is told what happens.")

    @property
    def is_keyed(self) -> bool:
        """Whether callers are asked who they are: for the keys of clients, minted ones or tokens, or by a plugin."""
        plugins = any(plugin.authenticates for plugin in self.plugins)
        return bool(self.clients or self.issuers) or self.accounts.require_keys or plugins

    @property
    def asks_operators(self) -> bool:
        """Whether operators are asked who they are."""
        return self.server.admin_key is not None or bool(self.operators)
