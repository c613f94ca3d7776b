"""The daemon as a Twisted application: ``twistd -ny claudeproxyd.tac``.

There is no command line here: the configuration is ``$CLAUDEPROXYD_CONFIG``, or else what ``twistd claudeproxyd``
falls back to.
"""

from twisted.application.service import Application
from twisted.python.usage import UsageError

from claudeproxyd.tap import Options, makeService

options = Options()
try:
    options.parseOptions([])
except UsageError as mistake:
    raise SystemExit(f"claudeproxyd: {mistake}") from None

application = Application("claudeproxyd")
makeService(options).setServiceParent(application)
