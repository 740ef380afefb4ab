"""A small DICOMweb server on loopback: instances are searched, retrieved and stored; it can be told to misbehave."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes, policy
from functools import partial
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from io import BytesIO
from urllib.parse import parse_qs, urlsplit

from pydicom import Dataset, dcmread

LISTED = ("StudyInstanceUID", "SeriesInstanceUID", "SOPInstanceUID", "SOPClassUID", "Modality")
BOUNDARY = "between-parts"
JSON = "application/dicom+json"


class Handler(BaseHTTPRequestHandler):
    """One request; what a test has put into `server.faults` under its method and kind answers in place of it."""

    protocol_version = "HTTP/1.1"
    timeout = 20  # s, after which a test that has gone wrong ends

    def log_message(self, *_: object) -> None:
        """Nothing; tests look at `server.asked`."""

    def do_GET(self) -> None:
        """QIDO-RS search of instances, or WADO-RS retrieval of one."""
        parts = urlsplit(self.path).path.strip("/").split("/")
        is_listing = parts[-1] == "instances"
        self._note("list" if is_listing else "fetch") or (self._list(parts) if is_listing else self._fetch(parts[-1]))

    def do_POST(self) -> None:
        """STOW-RS."""
        body = self.rfile.read(int(self.headers["Content-Length"]))
        self._note("store") or self._store(body)

    def _note(self, kind: str) -> bool:
        """Remember the request; whether a fault has answered it."""
        self.server.asked.append((kind, self.path, dict(self.headers)))
        fault = self.server.faults.get(kind)
        if fault:
            fault(self)
        return fault is not None

    def answer(self, content: bytes, kind: str = JSON, status: int = 200, **headers: object) -> None:
        """Send a whole answer; names of headers have _ for -."""
        self.send_response(status)
        for name, value in ({"Content_Type": kind, "Content_Length": len(content)} | headers).items():
            self.send_header(name.replace("_", "-"), str(value))
        self.end_headers()
        self.wfile.write(content)

    def parts(self, *contents: bytes) -> None:
        """Send DICOM files as an answer of several parts."""
        self.answer(multipart(*contents), MULTIPART)

    def _list(self, parts: list[str]) -> None:
        query = parse_qs(urlsplit(self.path).query)
        start, count = (int(query[name][0]) for name in ("offset", "limit"))
        wanted = {"StudyInstanceUID": parts[2]} | ({"SeriesInstanceUID": parts[4]} if len(parts) > 5 else {})
        found = [one for one in self.server.datasets() if all(one.get(key) == uid for key, uid in wanted.items())]
        self.answer(listing(found[start : start + count]))

    def _fetch(self, uid: str) -> None:
        if uid in self.server.files:
            self.parts(self.server.files[uid])
        else:
            self.answer(b"", status=404)

    def _store(self, body: bytes) -> None:
        head = f"Content-Type: {self.headers['Content-Type']}\r\n\r\n".encode()
        (part,) = message_from_bytes(head + body, policy=policy.HTTP).iter_parts()
        content = part.get_payload(decode=True)
        made = dcmread(BytesIO(content))
        self.server.files[made.SOPInstanceUID] = content
        self.answer(stored(made.SOPInstanceUID))


MULTIPART = f'multipart/related; type="application/dicom"; boundary={BOUNDARY}'


def multipart(*contents: bytes) -> bytes:
    heads = f"--{BOUNDARY}\r\nContent-Type: application/dicom\r\n\r\n".encode()
    return b"".join(heads + content + b"\r\n" for content in contents) + f"--{BOUNDARY}--\r\n".encode()


def listing(found: list[Dataset], **changed: str) -> bytes:
    """A listing of instances in DICOM JSON, with some values `changed`."""
    items = []
    for dataset in found:
        item = Dataset()
        for keyword in LISTED:
            setattr(item, keyword, changed.get(keyword, dataset.get(keyword)))
        items.append(item.to_json_dict())
    return json.dumps(items).encode()


def stored(uid: str, sequence: str = "ReferencedSOPSequence", **more: object) -> bytes:
    """What STOW-RS answers of one instance."""
    item, made = Dataset(), Dataset()
    item.ReferencedSOPInstanceUID = uid
    for keyword, value in more.items():
        setattr(item, keyword, value)
    setattr(made, sequence, [item])
    return made.to_json().encode()


class DicomWeb(ThreadingHTTPServer):
    """The server; `files` are its instances, `asked` the requests, `faults` what answers a "list", "fetch" or "store"."""

    daemon_threads = True

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Handler)
        self.files: dict[str, bytes] = {}
        self.asked: list[tuple[str, str, dict[str, str]]] = []
        self.faults: dict[str, Callable[[Handler], None]] = {}
        self.url = f"http://127.0.0.1:{self.server_port}/dicom-web"

    def handle_error(self, request: object, client_address: object) -> None:
        """Nothing: a client that refuses the rest of an answer closes the connection."""

    def add(self, path: object) -> Dataset:
        """Have a file as an instance; its header."""
        made = dcmread(path)
        self.files[made.SOPInstanceUID] = path.read_bytes()
        return made

    def datasets(self) -> list[Dataset]:
        """The instances, without their pixels."""
        return [dcmread(BytesIO(content), stop_before_pixels=True) for content in self.files.values()]


@contextmanager
def running() -> Iterator[DicomWeb]:
    """A server in a thread of its own."""
    with DicomWeb() as server:
        thread = threading.Thread(target=partial(server.serve_forever, poll_interval=0.01), daemon=True)
        thread.start()
        yield server
        server.shutdown()
        thread.join()
