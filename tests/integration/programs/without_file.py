"""``twistd claudeproxyd`` without a file, but at ports of the test's own: python without_file.py PUBLIC ADMIN"""

from __future__ import annotations

import sys
from dataclasses import replace
from typing import Any

from twisted.scripts.twistd import run

from claudeproxyd import tap

public, admin = sys.argv[1:]
usual = tap.load


def load(*args: Any, **options: Any) -> Any:
    """What the environment alone amounts to, elsewhere."""
    loaded = usual(*args, **options)
    config = loaded.config
    server = replace(
        config.server, listen=[f"tcp:{public}:interface=127.0.0.1"], admin=f"tcp:{admin}:interface=127.0.0.1"
    )
    return replace(loaded, config=replace(config, server=server))


tap.load = load
sys.argv = ["twistd", "-n", "--pidfile=", "claudeproxyd"]
run()
