"""
The root of everything over HTTP: each request goes through the gate, is matched by klein, authenticated, authorized,
checked against its route, and answered; whatever goes wrong is told as JSON.
"""

from __future__ import annotations

import gzip
import hashlib
import json
import re
from collections.abc import Callable, Coroutine, Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any, ClassVar, Final

from twisted.internet.defer import CancelledError, Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.server import NOT_DONE_YET

from pacs.monitoring.denials import Denials
from pacs.security.access import Principal, Role
from pacs.web.answers import JSON_TYPE, Answer, Stream, encode_json
from pacs.web.authentication import BY_NOTHING, Authenticator
from pacs.web.errors import HTTPError
from pacs.web.gate import Gate
from pacs.web.paths import PathTable
from pacs.web.request import WebRequest
from pacs.web.routes import Call, Route, parse_query
from pacs.web.sessions import Identity
from pacs.web.settings import WebSettings

if TYPE_CHECKING:
    from klein.resource import KleinResource

GZIP_LEAST_BYTES: Final = 1400
GZIP_MOST_BYTES: Final = 4 << 20  # more would keep the reactor for too long
_PLACE: Final = re.compile(r"\{(\w+)(\.\.\.)?\}")
_PUBLIC: Final = Identity(Principal(name="", peer_address="", role=Role.NONE), BY_NOTHING)

Translate = Callable[[Exception], HTTPError | None]
"""Gives the answer to an error of another room, or None when it is none that was foreseen."""


Serve = Callable[..., Coroutine[Deferred[Any], Any, object]]
"""Answers a request whose path has these values; gives the body, or that it was sent already."""


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
        self._paths: PathTable[Serve] = PathTable()
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
            request.path.decode("utf-8")
            segments = [part.decode("utf-8") for part in request.postpath or ()]
            request.method.decode("ascii")
        except HTTPError as error:
            return self._write(request, _error_answer(error))
        except UnicodeDecodeError:
            return self._write(request, _error_answer(HTTPError(400, "the path is not UTF-8")))
        found = self._paths.find(segments)
        if found is None:
            rendered: object = self._klein.render(request)
            return rendered
        serve, values = found
        running = Deferred.fromCoroutine(serve(request, **values))
        if not running.called:
            request.notifyFinish().addErrback(lambda _: running.cancel())
        running.addCallback(_finish, request).addErrback(self._broke_off, request)
        return NOT_DONE_YET

    # -- within

    def _add(self, path: str, by_method: Mapping[str, Route]) -> None:
        methods = dict(by_method)
        if "GET" in methods:
            methods["HEAD"] = methods["GET"]
        allowed = ", ".join([*methods, "OPTIONS"])

        async def serve(request: WebRequest, **values: str) -> object:
            request.route = path
            return await self._serve(request, methods, allowed, values)

        if self._paths.add(path, serve):
            return
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
        return self._write(request, _error_answer(HTTPError(404, "there is nothing here")))

    async def _serve(
        self, request: WebRequest, methods: Mapping[str, Route], allowed: str, values: Mapping[str, str]
    ) -> object:
        try:
            if request.method == b"OPTIONS":
                self._gate.answer_options(request, allowed)
                return self._write(request, Answer(b"", 204, content_type=""))
            route = methods.get(request.method_name)
            if route is None:
                raise HTTPError(405, f"{request.method_name[:16]} is not possible here", headers={"Allow": allowed})
            answer = await route.handler(await self._call(route, request, values))
        except HTTPError as error:
            answer = _error_answer(error)
        except CancelledError:
            raise
        except Exception as error:  # noqa: BLE001 - the border: whatever it is, the client is told in JSON
            answer = _error_answer(self._foreseen(request, error))
        if isinstance(answer, Stream):
            return await self._send(request, answer)
        return self._write(request, answer)

    def _foreseen(self, request: WebRequest, error: Exception) -> HTTPError:
        known = self._translate(error)
        if known is not None:
            return known
        self.log.failure("{method} {route} failed", method=request.method_name, route=request.route)
        return HTTPError(500, "the server failed; its log says why")

    async def _call(self, route: Route, request: WebRequest, values: Mapping[str, str]) -> Call:
        identity = _PUBLIC
        if route.operation is not None:
            identity = await self._authenticator.authenticate(request, self._gate.client_address(request))
            if not identity.principal.may(route.operation):
                raise HTTPError(403, self._denials.denied(identity.principal, route.operation))
        if route.is_patient_data and (reason := self._closed()):
            raise HTTPError(503, reason, headers={"Retry-After": "30"})
        path = {parameter.name: parameter.parse(values[parameter.name]) for parameter in route.path_parameters}
        query = parse_query(route, request.args or {})
        body = route.body.parse(self._read_json(request)) if route.body is not None else {}
        return Call(identity, path, query, body, request)

    def _read_json(self, request: WebRequest) -> Any:
        content_type = request.header("content-type").partition(";")[0].strip().lower()
        if content_type != "application/json":
            raise HTTPError(415, "the body must be application/json")
        assert request.content is not None
        body = request.content.read()
        try:
            value = json.loads(body, parse_constant=_refuse_constant)
            if b"\\u" in body:
                json.dumps(value, ensure_ascii=False).encode()  # half a surrogate pair is no text
        except (ValueError, RecursionError):
            raise HTTPError(400, "the body is not JSON") from None
        if _is_deeper(value, self._settings.json_depth):
            raise HTTPError(400, f"the body is nested in more than {self._settings.json_depth} levels")
        return value

    def _write(self, request: WebRequest, answer: Answer) -> bytes:
        """Set status and headers; give the body for klein to write."""
        body = answer.body
        set_header = request.setHeader
        if answer.is_one and request.method in (b"GET", b"HEAD") and answer.status == 200:
            etag = f'"{hashlib.blake2b(body, digest_size=12).hexdigest()}"'
            set_header("etag", etag)
            if _is_listed(request.header("if-none-match"), etag):
                request.setResponseCode(304)
                return b""
        request.setResponseCode(answer.status)
        for name, value in answer.headers.items():
            set_header(name, value)
        if answer.content_type:
            set_header("content-type", answer.content_type)
        if GZIP_LEAST_BYTES <= len(body) <= GZIP_MOST_BYTES:
            set_header("vary", "Origin, Accept-Encoding")
            if _takes_gzip(request.header("accept-encoding")):
                body = gzip.compress(body, 1, mtime=0)
                set_header("content-encoding", "gzip")
        if answer.status != 204:
            set_header("content-length", str(len(body)))
        return body

    async def _send(self, request: WebRequest, stream: Stream) -> object:
        try:
            if stream.etag:
                etag = f'"{stream.etag}"'
                request.setHeader("etag", etag)
                if _is_listed(request.header("if-none-match"), etag):
                    request.setResponseCode(304)
                    return b""
            request.setHeader("content-type", stream.content_type)
            for name, value in stream.headers.items():
                request.setHeader(name, value)
            if stream.length is not None:
                request.setHeader("content-length", str(stream.length))
            if request.method == b"HEAD":
                return b""
            try:
                await stream.send(request)
            except CancelledError:
                raise
            except Exception:  # noqa: BLE001 - the answer has begun: all that is left is to end the connection
                self.log.failure("{route} broke off", route=request.route)
                request.loseConnection()
                return NOT_DONE_YET
            return b""
        finally:
            stream.close()


def _finish(body: object, request: WebRequest) -> None:
    if request.is_gone:
        return
    if isinstance(body, bytes):
        request.write(body)
    if not request.finished:
        request.finish()


def _error_answer(error: HTTPError) -> Answer:
    return Answer(encode_json(error.body()), error.status, JSON_TYPE, error.headers)


def _is_listed(header: str, etag: str) -> bool:
    return bool(header) and (
        header.strip() == "*" or etag in (part.strip().removeprefix("W/") for part in header.split(","))
    )


def _takes_gzip(header: str) -> bool:
    """Whether gzip is accepted (RFC 9110 12.5.3)."""
    for part in header.split(","):
        coding, _, weight = part.partition(";")
        if coding.strip().lower() in ("gzip", "*"):
            return weight.replace(" ", "") not in ("q=0", "q=0.0", "q=0.00", "q=0.000")
    return False


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
