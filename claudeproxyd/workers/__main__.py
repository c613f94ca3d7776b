"""``python -m claudeproxyd.workers``: one worker. Started by the parent, which has it inherit what it needs."""

from claudeproxyd.tap import run_worker

run_worker()
