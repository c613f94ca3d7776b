"""``python -m claudeproxyd``: the command."""

import sys

from claudeproxyd.cli.entry import main

sys.exit(main())
