"""The command ``claudeproxyd``: the daemon, and what operators ask of it and have it do. See ``docs/command.md``."""
