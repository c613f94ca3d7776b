"""What somebody sees who starts the daemon in the foreground."""

from __future__ import annotations

from collections.abc import Sequence

from claudeproxyd import __version__


def banner(
    listening: Sequence[str],
    providers: Sequence[tuple[str, str, Sequence[str]]],
    admin: str,
    keyed: bool,
    names_claude: bool = True,
    state: str = "",
    accounts: str = "",
    workers: int = 1,
) -> str:
    """Return where the daemon listens, what it serves, and the lines that point clients at it.

    *listening* and *admin* are URLs, or endpoint strings of what has none; *admin* may be ''. *providers* are
    (name, kind, credential names). *keyed*: clients need a key. *names_claude*: a client may ask for Claude's models by
    their names. *state* and *accounts* say where these are kept. *workers*: how many serve.
    """
    lines = [f"claudeproxyd {__version__}"]
    lines += [f"  listens on   {place}" for place in listening]
    if admin:
        page = f"{admin.rstrip('/')}/admin/" if admin.startswith("http") else admin
        lines.append(f"  admin        {page}")
    if workers > 1:
        lines.append(f"  workers      {workers}")
    if state:
        lines.append(f"  state        {state}")
    if accounts:
        lines.append(f"  accounts     {accounts}")
    for name, kind, credentials in providers:
        served = f"{name} ({kind})" if kind != name else name
        lines.append(f"  provider     {served}: {', '.join(credentials) or 'no credential'}")
    url = next((place.rstrip("/") for place in listening if place.startswith("http")), None)
    if url is not None:
        # In brackets: the log masks whatever else stands where a secret would.
        key = "<your key>" if keyed else "<any>"
        model = "" if names_claude else ' ANTHROPIC_MODEL="<one of /v1/models>"'
        lines += [
            "",
            f'  Claude Code  ANTHROPIC_BASE_URL={url} ANTHROPIC_AUTH_TOKEN="{key}"{model} claude',
            f'  Python SDK   anthropic.Anthropic(base_url="{url}", api_key="{key}")',
            f"  curl         curl {url}/v1/models" + (f' -H "x-api-key: {key}"' if keyed else ""),
        ]
    return "\n".join(lines) + "\n"
