"""HTTP to a server that is not trusted: one origin, answers of a bounded size that come within a bounded time."""

import logging
import os
import time
from io import BytesIO
from typing import Any

import requests
from requests.adapters import HTTPAdapter
from urllib3.exceptions import TimeoutError as BodyTimeoutError

from ultrarefiner_monai.errors import DataError

TOKEN = "ULTRAREFINER_DICOMWEB_TOKEN"  # of the environment
CONNECT_S, SILENCE_S, ANSWER_S = 10, 60, 600  # the most that a connection, the next bytes and a whole answer may take
MIB = 1 << 20
MAX_LISTING = 16 * MIB  # 1000 instances take some 2 MiB of JSON
MAX_INSTANCE = 512 * MIB  # 220 uncompressed RGB frames of 1024 x 768
PIECE = 1 << 16
DEFLATED = b"1.2.840.10008.1.2.1.99"  # transfer syntax whose data set pydicom inflates whole, whatever its size
NEXT_STEPS = {
    **dict.fromkeys((401, 403), f"set {TOKEN} or name the server in ~/.netrc, of a user who may do this"),
    404: "check the URL, which is that of DICOMweb itself, and that the server has this study, series and instance",
}


class NoAnswerError(DataError):
    """The server cannot be reached, or has stopped to answer: there is no use in asking it for the next instance."""


def open_session() -> requests.Session:
    """A session with the token of the environment, or a user and password of `.netrc`, for `https` and `http`.

    Raises:
        DataError: the token holds what no token does; it is not shown.
    """
    for library in ("dicomweb_client", "urllib3"):  # they log what servers say, unescaped; errors hold it, too
        logging.getLogger(library).setLevel(logging.CRITICAL)
    session = requests.Session()
    session.headers.update({"Accept": "application/dicom+json", "Accept-Encoding": "identity"})
    for scheme in ("https://", "http://"):
        session.mount(scheme, Guarded())
    if token := os.environ.get(TOKEN):
        if not (token.isascii() and token.isprintable() and " " not in token):
            raise DataError(f"{TOKEN}: expected letters, digits and signs without spaces; set it anew")
        session.auth = lambda request: _with_token(request, token)
    return session


def _with_token(request: requests.PreparedRequest, token: str) -> requests.PreparedRequest:
    request.headers["Authorization"] = f"Bearer {token}"
    return request


class Guarded(HTTPAdapter):
    """Sends a request and reads its whole answer, or refuses that.

    Raises:
        NoAnswerError: the server cannot be reached, or falls silent.
        DataError: an answer that leads elsewhere, says that something is wrong, is compressed, too large, too slow or cut.
    """

    def send(self, request: requests.PreparedRequest, *args: Any, **kwargs: Any) -> requests.Response:
        """As of `HTTPAdapter`; the answer has been read when it is returned."""
        request.headers.pop("Host", None)  # dicomweb-client's lacks the port; the right one is set where none is
        try:
            response = super().send(request, *args, **kwargs)
            try:
                _check_head(response)
                response.raw = _body(response, "multipart" in request.headers["Accept"])
            except BaseException:
                response.raw.close()
                raise
        except (requests.ConnectionError, requests.Timeout, BodyTimeoutError) as error:
            step = "check the URL, and that the server runs"
            if isinstance(error, requests.exceptions.SSLError):
                step = "name the file with the certificate of its authority in REQUESTS_CA_BUNDLE"
            raise NoAnswerError(f"no answer ({type(error).__name__}); {step}") from None
        return response


def _check_head(response: requests.Response) -> None:
    """Refuse an answer by its status and headers."""
    status, headers = response.status_code, response.headers
    if response.is_redirect:
        raise DataError(f"status {status}, leads to {headers['Location']}; name that as --dicomweb if you trust it")
    if status >= 400:
        raise DataError(f"status {status} ({response.reason}); {NEXT_STEPS.get(status, 'see the log of the server')}")
    if (encoding := headers.get("Content-Encoding", "identity")) != "identity":
        raise DataError(f"expected an answer as it is, found one in {encoding}; turn its compression off")
    kind = headers.get("Content-Type", "").partition(";")[0].strip().lower()
    headers["Content-Type"] = kind if kind.endswith("json") else headers.get("Content-Type", "")  # compared as a whole


def _body(response: requests.Response, is_instance: bool) -> BytesIO:
    """The body, read in pieces as they come."""
    body, limit, end = BytesIO(), MAX_INSTANCE if is_instance else MAX_LISTING, time.monotonic() + ANSWER_S
    while piece := response.raw.read1(PIECE, decode_content=False):
        body.write(piece)
        if body.tell() > limit:
            raise DataError(f"an answer of more than {limit // MIB} MiB; it is not read any further")
        if time.monotonic() > end:
            raise DataError(f"an answer that takes more than {ANSWER_S} s; try again when the server has less to do")
    content = body.getvalue()
    if response.headers["Content-Type"].startswith("multipart/") and not content.rstrip().endswith(b"--"):
        raise DataError(f"an answer that is cut after {len(content)} bytes; try again")
    if is_instance and DEFLATED in content:
        raise DataError("an instance that is deflated; store it in another transfer syntax")
    body.seek(0)
    return body
