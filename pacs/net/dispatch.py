"""
From a request to its response: the service of the SOP class, and the one place where failures become statuses
(PS3.7 annex C).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping, Sequence
from typing import Any, ClassVar, Final, Protocol, runtime_checkable

from twisted.internet.defer import CancelledError
from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger

from pacs.dimse import CFindRQ, Command, CStoreRQ, DIMSEError, Response, Status
from pacs.monitoring.logs import RateLimited
from pacs.monitoring.metrics import Metrics
from pacs.net.association import Answer, Association, AssociationClosed
from pacs.net.source import DataSetSource
from pacs.ul import AbstractSyntaxSupport, AcceptedContext

Handler = Callable[[Association, AcceptedContext, Any, DataSetSource | None], Awaitable[Response | Answer | None]]
"""
Gives the final response, with its data set if it has one, or None when it has sent it itself; raises DIMSEError for a
failure.
"""

ImmediateHandler = Callable[[Association, AcceptedContext, Any], Response]
"""The same for a request without a data set that needs nothing to wait for."""

FailureTranslator = Callable[[Exception], DIMSEError | None]
"""Gives the status that an exception of a lower room means, or None when it does not know it."""

ERROR_COMMENT_CHARACTERS: Final = 64

_OUT_OF_RESOURCES_APPLIES: Final = frozenset({CStoreRQ, CFindRQ})
"""Requests whose service class has the status A700 (PS3.4 B.2.3, C.4.1.1.4)."""


class Service(Protocol):
    """A Service Class of PS3.4, as SCP."""

    handlers: Mapping[type[Command], Handler]

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Tell how an abstract syntax is supported, or None when it is not ours."""


@runtime_checkable
class ImmediateService(Service, Protocol):
    """One that answers some requests at once: no coroutine, no Deferred."""

    immediate_handlers: Mapping[type[Command], ImmediateHandler]


class ServiceDispatcher:
    """
    Finds the service of a request by the abstract syntax of its presentation context.

    Args:
        services: the first that supports an abstract syntax has it.
        translate: from the exceptions of the archive to statuses.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self, *, services: Sequence[Service], translate: FailureTranslator, metrics: Metrics, clock: IReactorTime
    ) -> None:
        self._services = services
        self._translate = translate
        self._metrics = metrics
        self._clock = clock
        self._service_of: dict[str, Service] = {}
        self._suspended_because = ""
        self._refusals = RateLimited(clock=clock)
        self._immediate: dict[type[Command], tuple[Service, ImmediateHandler]] = {
            message: (service, handler)
            for service in services
            if isinstance(service, ImmediateService)
            for message, handler in service.immediate_handlers.items()
        }

    def support(self, abstract_syntax: str) -> AbstractSyntaxSupport | None:
        """Tell the negotiation how an abstract syntax is supported (PS3.8 9.3.3.2)."""
        for service in self._services:
            support = service.support(abstract_syntax)
            if support is not None:
                return support
        return None

    def suspend(self, why: str) -> None:
        """Refuse every request that touches patient data; those that are answered at once (C-ECHO) go on."""
        self._suspended_because = why

    def resume(self) -> None:
        """Serve again."""
        self._suspended_because = ""

    def answer_at_once(self, association: Association, context: AcceptedContext, request: Command) -> Response | None:
        """Serve a request that needs nothing to wait for; give None for any other."""
        found = self._immediate.get(request.__class__)
        if found is None:
            return None
        service, handler = found
        if self._service_for(context.abstract_syntax) is not service:
            return None
        started_s = self._clock.seconds()
        try:
            response = handler(association, context, request)
        except Exception as error:  # noqa: BLE001 - the border: every failure of a service becomes a status
            response = self._failed(association, request, error)
        self._served(association, request.operation, response.status, started_s)
        return response

    async def answer(
        self, association: Association, context: AcceptedContext, request: Command, data_set: DataSetSource | None
    ) -> Response | Answer | None:
        """Serve one request; give its final response, or None when the service has sent it."""
        at_once = self.answer_at_once(association, context, request)
        if at_once is not None:
            return at_once
        started_s = self._clock.seconds()
        response: Response | Answer | None
        try:
            response = await self._handler(context, request)(association, context, request, data_set)
        except (CancelledError, AssociationClosed):
            raise
        except Exception as error:  # noqa: BLE001 - the border: every failure of a service becomes a status
            response = self._failed(association, request, error)
        command = response.command if isinstance(response, Answer) else response
        status = command.status if command is not None else Status.SUCCESS
        self._served(association, request.operation, status, started_s)
        return response

    def _served(self, association: Association, operation: str, status: int, started_s: float) -> None:
        self._metrics.dimse_request_served(operation, status, self._clock.seconds() - started_s)
        served = association.served
        served[operation] = served.get(operation, 0) + 1
        if status:
            association.unsuccessful += 1

    def _handler(self, context: AcceptedContext, request: Command) -> Handler:
        if self._suspended_because:
            has_status = type(request) in _OUT_OF_RESOURCES_APPLIES
            status = Status.OUT_OF_RESOURCES if has_status else Status.PROCESSING_FAILURE
            raise DIMSEError(status, self._suspended_because)
        service = self._service_for(context.abstract_syntax)
        handler = service.handlers.get(type(request)) if service is not None else None
        if handler is None:
            raise DIMSEError(Status.UNRECOGNIZED_OPERATION, f"{request.operation} is not served in this context")
        return handler

    def _service_for(self, abstract_syntax: str) -> Service | None:
        service = self._service_of.get(abstract_syntax)
        if service is None:
            service = next((s for s in self._services if s.support(abstract_syntax) is not None), None)
            if service is not None and len(self._service_of) < 1000:
                self._service_of[abstract_syntax] = service
        return service

    def _failed(self, association: Association, request: Command, error: Exception) -> Response:
        refusal = error if isinstance(error, DIMSEError) else self._translate(error)
        if refusal is None:
            self.log.failure(
                "{operation} of {calling_ae_title} failed in association {association_id}",
                operation=request.operation,
                calling_ae_title=association.calling_ae_title,
                association_id=association.association_id,
            )
            refusal = DIMSEError(Status.PROCESSING_FAILURE, "internal error, see the server's log")
        elif refusal.status != Status.NOT_AUTHORIZED:  # that has been reported by whoever refused it
            self._refusals.warn(
                self.log,
                f"{association.peer_address} {request.operation} {refusal.status} {refusal.comment}",
                "{operation} of {calling_ae_title} is answered {status:04X}: {reason}",
                operation=request.operation,
                calling_ae_title=association.calling_ae_title,
                association_id=association.association_id,
                status=refusal.status,
                reason=refusal.comment or "",
            )
        comment = refusal.comment[:ERROR_COMMENT_CHARACTERS] if refusal.comment else None
        more = {"error_id": refusal.error_id} if refusal.error_id is not None else {}
        return request.response(
            refusal.status, error_comment=comment, offending_element=tuple(refusal.offending_elements), **more
        )
