"""
The root of everything over HTTP: each request goes through the gate, is matched by klein, authenticated, authorized,
checked against its route, and answered; whatever goes wrong is told as JSON.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final
from urllib.parse import unquote_to_bytes

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from pacs.monitoring.denials import Denials
from pacs.security.access import Principal, Role
from pacs.web.answers import NOTHING, Answer, Stream, error_answer
from pacs.web.authentication import BY_NOTHING, Authenticator
from pacs.web.coroutines import begin
from pacs.web.errors import HTTPError
from pacs.web.gate import Gate
from pacs.web.paths import PathTable
from pacs.web.request import WebRequest
from pacs.web.routes import Call, QueryReader, Route
from pacs.web.sending import send_answer, send_stream
from pacs.web.sessions import Identity
from pacs.web.settings import WebSettings

if TYPE_CHECKING:
    from klein.resource import KleinResource

_PLACE: Final = re.compile(r"\{(\w+)(\.\.\.)?\}")
_PUBLIC: Final = Identity(Principal(name="", peer_address="", role=Role.NONE), BY_NOTHING)

Translate = Callable[[Exception], HTTPError | None]
"""Gives the answer to an error of another room, or None when it is none that was foreseen."""


Serve = Callable[..., Coroutine[Deferred[Any], Any, object]]
"""Answers a request whose path has these values, for klein."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """
    What can be done at a path.

    Attributes:
        allowed: the methods, as people read them.
        queries: read the query of each method.
    """

    path: str
    methods: Mapping[bytes, Route]
    allowed: str
    queries: Mapping[bytes, QueryReader]


class WebRoot:
    """
    Answers requests.

    Args:
        routes: the whole table.
        translate: of the archive's errors.
        closed: why patient data is not served at present, or nothing.
    """

    log: ClassVar[Logger] = Logger()

    def __init__(
        self,
        *,
        settings: WebSettings,
        routes: Sequence[Route],
        authenticator: Authenticator,
        denials: Denials,
        translate: Translate,
        closed: Callable[[], str],
    ) -> None:
        self._settings = settings
        self._authenticator = authenticator
        self._denials = denials
        self._translate = translate
        self._closed = closed
        self._gate = Gate(settings)
        self._paths: PathTable[Endpoint] = PathTable()
        self._left_to_klein: list[tuple[str, Serve]] = []
        paths: dict[str, dict[str, Route]] = {}
        for route in routes:
            paths.setdefault(route.path, {})[route.method] = route
        for path, by_method in paths.items():
            self._add(path, by_method)

    def render(self, request: WebRequest) -> object:
        """Answer a request, now or later."""
        try:
            self._gate.enter(request)
            found = self._paths.find(request.path)
            request.method.decode("ascii")
        except HTTPError as error:
            send_answer(request, error_answer(error))
            return NOT_DONE_YET
        except UnicodeDecodeError:
            send_answer(request, error_answer(HTTPError(400, "the path is not UTF-8")))
            return NOT_DONE_YET
        if found is None:
            request.postpath = [unquote_to_bytes(part) for part in request.path[1:].split(b"/")]
            rendered: object = self._klein.render(request)
            return rendered
        try:
            running = begin(self._serve(request, *found))
        except Exception:  # noqa: BLE001 - the border: a fault in what answers
            self._broke_off(Failure(), request)
            return NOT_DONE_YET
        if running is not None:
            request.notifyFinish().addErrback(lambda _: running.cancel())
            running.addErrback(self._broke_off, request)
        return NOT_DONE_YET

    # -- within

    def _add(self, path: str, by_method: Mapping[str, Route]) -> None:
        methods = dict(by_method)
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        endpoint = Endpoint(
            path=path,
            methods={method.encode(): route for method, route in methods.items()},
            allowed=", ".join([*methods, "OPTIONS"]),
            queries={method.encode(): QueryReader(route.query) for method, route in methods.items()},
        )
        if self._paths.add(path, endpoint):
            return

        async def serve(request: WebRequest, **values: str) -> object:
            await self._serve(request, endpoint, values)
            return NOT_DONE_YET  # it is answered

        serve.__name__ = f"serve {path}"
        rule = _PLACE.sub(lambda m: f"<path:{m[1]}>" if m[2] else f"<{m[1]}>", path)
        self._left_to_klein.append((rule, serve))

    @cached_property
    def _klein(self) -> KleinResource:
        """Made for the first request that it has to answer: with werkzeug it costs 3 MB, and many servers need none."""
        from klein import Klein
        from werkzeug.exceptions import HTTPException

        klein = Klein()
        klein.url_map.merge_slashes = False
        for rule, serve in self._left_to_klein:
            klein.route(rule)(serve)  # type: ignore[type-var]
        klein.handle_errors(HTTPException)(self._not_found)  # type: ignore[arg-type]
        return klein.resource()

    def _broke_off(self, failure: Failure, request: WebRequest) -> None:
        """The client is gone; or there is a fault in what answers, which then can't tell it any more."""
        if not failure.check(CancelledError):
            self.log.failure("{method} {route} failed", failure, method=request.method_name, route=request.route)
            request.loseConnection()

    def _not_found(self, request: WebRequest, _: object) -> object:
        send_answer(request, error_answer(HTTPError(404, "there is nothing here")))
        return NOT_DONE_YET

    async def _serve(self, request: WebRequest, endpoint: Endpoint, values: Mapping[str, str]) -> None:
        request.route = endpoint.path
        answer: Answer | Stream
        try:
            route = endpoint.methods.get(request.method)
            if route is not None:
                identity = _PUBLIC
                if route.operation is not None:
                    self._gate.check_writer(request)
                    identity = self._authenticator.known(request) or await self._authenticate(request)
                answer = await route.handler(self._call(route, endpoint, request, values, identity))
            elif request.method == b"OPTIONS":
                self._gate.answer_options(request, endpoint.allowed)
                answer = NOTHING
            else:
                method = request.method_name[:16]
                raise HTTPError(405, f"{method} is not possible here", headers={"Allow": endpoint.allowed})
        except HTTPError as error:
            answer = error_answer(error)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: whatever it is, the client is told in JSON
            answer = error_answer(self._foreseen(request, error))
        if isinstance(answer, Answer):
            send_answer(request, self._located(answer))
        else:
            await send_stream(request, answer)

    def _located(self, answer: Answer) -> Answer:
        """Give an answer whose URL is that of our clients, behind whatever proxy."""
        location = answer.headers.get("Location")
        if location is None or not self._settings.public_url:
            return answer
        return answer._replace(headers={**answer.headers, "Location": self._settings.public_url + location})

    def _foreseen(self, request: WebRequest, error: Exception) -> HTTPError:
        known = self._translate(error)
        if known is not None:
            return known
        self.log.failure("{method} {route} failed", method=request.method_name, route=request.route)
        return HTTPError(500, "the server failed; its log says why")

    async def _authenticate(self, request: WebRequest) -> Identity:
        return await self._authenticator.authenticate(request, self._gate.client_address(request))

    def _call(
        self, route: Route, endpoint: Endpoint, request: WebRequest, values: Mapping[str, str], identity: Identity
    ) -> Call:
        if route.operation is not None and not identity.principal.may(route.operation):
            raise HTTPError(403, self._denials.denied(identity.principal, route.operation))
        if route.is_patient_data and (reason := self._closed()):
            raise HTTPError(503, reason, headers={"Retry-After": "30"})
        path = values
        if values:
            path = {parameter.name: parameter.parse(values[parameter.name]) for parameter in route.path_parameters}
        query = endpoint.queries[request.method].read(request.args or {})
        body = route.body.parse(self._read_json(request)) if route.body is not None else {}
        return Call(identity, path, query, body, request)

    def _read_json(self, request: WebRequest) -> Any:
        content_type = request.header("content-type").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HTTPError(415, "the body must be application/json")
        assert request.content is not None
        try:
            body = request.content.read().decode("utf-8-sig")  # given bytes, `json` would take half a surrogate pair
            value = json.loads(body, parse_constant=_refuse_constant)
            if "\\u" in body:
                json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            raise HTTPError(400, "the body is not JSON") from None
        if _is_deeper(value, self._settings.json_depth):
            raise HTTPError(400, f"the body is nested in more than {self._settings.json_depth} levels")
        return value


def _refuse_constant(name: str) -> None:
    raise ValueError(f"{name} is no JSON")


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value is nested more deeply."""
    layer = [value]
    for _ in range(levels):
        layer = [
            inner
            for outer in layer
            if isinstance(outer, dict | list)
            for inner in (outer.values() if isinstance(outer, dict) else outer)
        ]
        if not layer:
            return False
    return any(isinstance(inner, dict | list) for inner in layer)
