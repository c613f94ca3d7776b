"""Makes ``twistd claudeproxyd`` known. Every ``twistd`` on the machine imports this, so it imports nothing of ours."""

from twisted.application.service import ServiceMaker

claudeproxyd = ServiceMaker(
    "claudeproxyd",
    "claudeproxyd.tap",
    "One Claude-compatible API in front of pools of upstream credentials.",
    "claudeproxyd",
)
