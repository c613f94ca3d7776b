"""How claudeproxyd is built and what it needs; ``docs/dependencies.md`` says why."""

import re
from pathlib import Path

from setuptools import find_packages, setup

HERE = Path(__file__).parent
VERSION = re.search(r'__version__ = "(.+)"', (HERE / "claudeproxyd/__init__.py").read_text("utf-8"))

setup(
    name="claudeproxyd",
    version=VERSION.group(1),
    description="One Claude-compatible API in front of pools of upstream credentials.",
    # The plugin goes into Twisted's own plugin folder; find_packages alone would not look there, and without
    # `include` it would install our tests as a package of their own.
    packages=[*find_packages(include=["claudeproxyd*"]), "twisted.plugins"],
    # An editable install then is a plain path, not an import hook: through the hook Twisted finds no plugins.
    package_dir={"": "."},
    package_data={"claudeproxyd": ["py.typed", "web/pages/*.html", "web/pages/*.css", "web/pages/*.js"]},
    entry_points={"console_scripts": ["claudeproxyd = claudeproxyd.cli.entry:main"]},
    python_requires=">=3.11",
    install_requires=[
        "twisted[tls]>=26.10",
        "zope.interface>=8",
        "treq>=26.7",
        "cryptography>=50",
        "joserfc>=1.8",
        "pyopenssl>=26.4",
        "service-identity>=26.1",
        "httptools>=0.9",
        "msgspec>=0.22",
        "cffi>=2.1",
        "zstandard>=0.25",
        "prometheus_client>=0.26",
    ],
    extras_require={
        "redis": ["hiredis>=3.5"],
        "postgresql": ["psycopg[binary]>=3.3"],
        "prices": ["genai-prices>=0.2"],
        "traces": ["opentelemetry-proto>=1.45"],
        "test": [
            "pytest>=9.2",
            "pytest-twisted>=1.14.3",
            "pytest-xdist>=3.8",
            "hypothesis>=6.170",
            "anthropic>=2.12",
            "google-genai>=3.4",
            "openai>=3.57",
            "boto3>=1.44",
            "genai-prices>=0.2",
            "hiredis>=3.5",
            "psycopg[binary]>=3.3",
            "opentelemetry-proto>=1.45",
        ],
        "dev": ["ruff>=0.17.6", "mypy>=2.4", "mypy-zope>=1.0.17", "towncrier>=26.9"],
    },
    classifiers=[
        "Framework :: Twisted",
        "Programming Language :: Python :: 3.11",
        "Typing :: Typed",
    ],
    zip_safe=False,
)
