"""``python -m claudeproxyd``: the command."""

import sys

from claudeproxyd.cli.main import main

sys.exit(main())
