"""Makes ``twistd claudeproxyd`` known. Every ``twistd`` on the machine imports this, so it imports nothing of ours."""

from twisted.application.service import ServiceMaker


class DaemonMaker(ServiceMaker):
    """Makes the daemon."""

    @property
    def options(self) -> object:
        """Asked for by a twistd that is to be the daemon, and no other."""
        from claudeproxyd import hangups

        hangups.hold()  # what comes with the options takes a second, in which a SIGHUP would end the process
        return super().options


claudeproxyd = DaemonMaker(
    "claudeproxyd",
    "claudeproxyd.tap",
    "One Claude-compatible API in front of pools of upstream credentials.",
    "claudeproxyd",
)
