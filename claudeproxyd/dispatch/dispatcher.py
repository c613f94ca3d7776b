"""The way into dispatch."""

from __future__ import annotations

from typing import TYPE_CHECKING

from zope.interface import implementer

from claudeproxyd.dispatch.runner import RequestRunner
from claudeproxyd.interfaces import IDispatcher

if TYPE_CHECKING:
    from claudeproxyd.dispatch.body import Body
    from claudeproxyd.dispatch.request import ApiRequest
    from claudeproxyd.dispatch.services import DispatchServices
    from claudeproxyd.interfaces import ICapture, IDownlink


@implementer(IDispatcher)
class Dispatcher:
    """Serves requests. Made for each configuration; called by web."""

    def __init__(self, services: DispatchServices) -> None:
        self.services = services

    def serve(
        self, request: ApiRequest, body: Body, downlink: IDownlink, capture: ICapture | None = None
    ) -> RequestRunner:
        """See :meth:`IDispatcher.serve <claudeproxyd.interfaces.IDispatcher.serve>`."""
        runner = RequestRunner(self.services, request, body, downlink, capture)
        runner.start()
        return runner
