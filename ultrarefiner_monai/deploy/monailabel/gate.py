"""What stands before a MONAI Label server: who may ask, from which pages, for what, and how much at once.

MONAI Label opens more than annotating needs (weights can be replaced, logs read, requests passed on), to everybody, and lets
pages of any site ask. Its own authentication needs a Keycloak server, and its release 0.8.5 refuses every token.
"""

import base64
import binascii
import hmac
import re
from collections.abc import Iterable, Mapping
from ipaddress import IPv6Address, ip_address
from urllib.parse import parse_qs, parse_qsl, urlsplit

from starlette.datastructures import Headers
from starlette.middleware.body_limit import RequestBodyLimitMiddleware
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import ASGIApp, Receive, Scope, Send

from ultrarefiner_monai.deploy.monailabel.request import is_text
from ultrarefiner_monai.errors import DataError

TOKEN = "ULTRAREFINER_TOKEN"  # the variable, and not an option, which every user of the machine could read
SHORTEST = 16  # letters of a password: 64 bits where they are hexadecimal, which nobody guesses over a network
ORIGIN = re.compile(r"https?://[A-Za-z0-9.\-\[\]:]+")
UPLOAD_MIB = 64  # a picture of 4,000 x 4,000 in three colours has 48 MB uncompressed
MOST_MIB = 1024
OTHER_BODY = 2**20  # bytes of a body without files: a few options
READ, WRITE = ("GET",), ("GET", "PUT", "DELETE")
TASK, TASKS = ("POST",), ("GET", "DELETE")  # one is begun; what runs is asked for and stopped
OPEN = {  # what clients need to annotate, * is a name; everything else is closed
    "/info": READ,
    "/activelearning/*": TASK,
    "/infer/*": TASK,
    "/batch/infer": TASKS,
    "/batch/infer/*": TASK,
    "/scoring": TASKS,
    "/scoring/*": TASK,
    "/train": TASKS,
    "/train/*": TASK,
    "/datastore": WRITE,
    "/datastore/image": WRITE,
    "/datastore/label": WRITE,
    "/datastore/image/info": READ,
    "/datastore/label/info": READ,
}


def password(environment: Mapping[str, str]) -> str | None:
    """The password that clients have to know; None where the variable is not set.

    Raises:
        DataError: it is too short to be one, as the empty one that the container begins with.
    """
    token = environment.get(TOKEN)
    if token is not None and not re.fullmatch(rf"[!-~]{{{SHORTEST},}}", token):
        raise DataError(
            f"{TOKEN}: expected a password of at least {SHORTEST} letters, digits and signs, found {len(token)}; "
            "make one with 'openssl rand -hex 16'"
        )
    return token


def origins_of(text: str) -> list[str]:
    """The origins in a text that separates them by commas.

    Raises:
        DataError: one is none.
    """
    origins = [origin.strip() for origin in text.split(",") if origin.strip()]
    for origin in origins:
        if not ORIGIN.fullmatch(origin):
            raise DataError(f"origins: expected such as https://viewer.example:8443, without a path, found '{origin}'")
    return origins


def upload_bytes(text: str) -> int:
    """The largest body with files in bytes, of a text that says it in MiB.

    Raises:
        DataError: it is no whole number from 1 to 1,024.
    """
    if not text.isdecimal() or not 1 <= int(text) <= MOST_MIB:
        raise DataError(f"upload_mib: expected a whole number from 1 to {MOST_MIB}, found '{text}'")
    return int(text) * 2**20


class Gate:
    """ASGI middleware that answers what must not reach the server.

    With a password it lets in who knows it: as the password of HTTP Basic, as a Bearer token, or in exchange for such a token
    at `/auth/token`, as 3D Slicer's plugin does. Without one it lets in programs of this machine, whatever address the server
    is bound to. A page in a browser is let in if it is the server's own or its origin is listed.

    Args:
        app: the server.
        token: the password.
        origins: of pages whose scripts may ask, such as "https://viewer.example".
        limit: bytes of a body with files; others have 1 MiB.
    """

    def __init__(self, app: ASGIApp, token: str | None, origins: Iterable[str] = (), limit: int = UPLOAD_MIB * 2**20):
        self.app = app
        self.token = token
        self.origins = frozenset(origins)
        self.with_files = RequestBodyLimitMiddleware(self._answer, limit)
        self.others = RequestBodyLimitMiddleware(self._answer, min(limit, OTHER_BODY))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on or refuse it (400, 401, 403 or 413 with a `detail`)."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
        elif scope["type"] == "http":
            files = Headers(scope=scope).get("content-type", "").lower().startswith("multipart/form-data")
            await (self.with_files if files else self.others)(scope, receive, send)
        else:  # nothing here speaks over web sockets
            await send({"type": "websocket.close", "code": 1008})

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        request = Request(scope, receive)
        path = scope["path"].removeprefix(scope.get("root_path", "")).rstrip("/")
        answer = self._stranger(request) or _odd(scope)
        if answer is None and self.token is not None:
            answer = await self._login(request, path)
        if answer is None and not _is_open(path, request.method):
            answer = _refuse(403, f"{request.method} {path or '/'}: closed, for annotating does not need it")
        await (answer or self.app)(scope, receive, send)

    def _stranger(self, request: Request) -> Response | None:
        """The answer to who asks from elsewhere; None to others."""
        host, origin = request.headers.get("host", ""), request.headers.get("origin")
        here = _is_loopback((request.scope.get("server") or ("",))[0]) and _is_loopback(_host_name(host))
        if self.token is None and not here:
            return _refuse(
                403, f"without a password this server is for programs of its machine, at 127.0.0.1; set {TOKEN}"
            )
        if origin is None:  # of a page that only shows or loads something; of other programs
            strange = request.headers.get("sec-fetch-site", "none") not in ("none", "same-origin")
        else:
            strange = origin not in self.origins and (not host or urlsplit(origin).netloc.lower() != host.lower())
        return (
            _refuse(403, "pages of other sites may not ask; list theirs: --conf origins URL,URL") if strange else None
        )

    async def _login(self, request: Request, path: str) -> Response | None:
        """What 3D Slicer's plugin asks before it sends a token; the answer to who has no password; None to others."""
        if (path, request.method) == ("/auth", "GET"):
            return JSONResponse({"enabled": True})
        if (path, request.method) == ("/auth/token", "POST"):
            sent = parse_qs((await request.body()).decode("latin-1")).get("password", [""])[0]
            if self._is_token(sent):
                return JSONResponse({"access_token": self.token, "token_type": "Bearer"})
        elif self._is_token(_sent_password(request.headers.get("authorization", ""))):
            return JSONResponse({}) if path == "/auth/token/valid" else None
        return _refuse(401, "a password is wanted", {"WWW-Authenticate": 'Basic realm="UltraRefiner", charset="UTF-8"'})

    def _is_token(self, sent: str) -> bool:
        """Whether it is the password, in a time that does not depend on how much of it is right."""
        return hmac.compare_digest(sent.encode(), (self.token or "").encode())


def _refuse(status: int, detail: str, headers: Mapping[str, str] | None = None) -> Response:
    return JSONResponse({"detail": detail}, status, headers)


def _odd(scope: Scope) -> Response | None:
    """The answer to an address with letters that forge lines of a log, or too long for a file's name; None to others."""
    try:
        query = parse_qsl(scope["query_string"].decode("ascii"), keep_blank_values=True, errors="strict")
    except ValueError:
        return _refuse(400, "query: expected UTF-8")
    texts = [*scope["path"].split("/"), *(text for pair in query for text in pair)]
    return None if all(map(is_text, texts)) else _refuse(400, "path, query: expected texts of letters, not too long")


def _is_open(path: str, method: str) -> bool:
    return any(
        method in methods and re.fullmatch(pattern.replace("*", "[^/]+"), path) for pattern, methods in OPEN.items()
    )


def _is_loopback(host: str) -> bool:
    """Whether an address, or the name in it, is that of this machine to itself."""
    try:
        address = ip_address(host)
    except ValueError:
        return host == "localhost"
    mapped = address.ipv4_mapped if isinstance(address, IPv6Address) else None
    return (mapped or address).is_loopback


def _host_name(host: str) -> str:
    try:
        return urlsplit(f"//{host}").hostname or ""
    except ValueError:
        return ""


def _sent_password(authorization: str) -> str:
    """The password in a header, as a Bearer token or after the colon of HTTP Basic; empty where there is none."""
    kind, _, value = authorization.partition(" ")
    if kind.lower() == "bearer":
        return value.strip()
    try:
        return base64.b64decode(value, validate=True).decode().partition(":")[2] if kind.lower() == "basic" else ""
    except (binascii.Error, UnicodeDecodeError):
        return ""
