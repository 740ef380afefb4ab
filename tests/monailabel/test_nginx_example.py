"""nginx with the example's settings, on this machine: who is let in, what passes, and what it passes on to."""

import contextlib
import getpass
import io
import json
import shutil
import subprocess
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import numpy as np
import pytest
import requests
from conftest import free_port
from label_server import until
from PIL import Image

EXAMPLE = Path(__file__).parents[2] / "docs" / "examples" / "nginx_monailabel.conf"
ANNA = ("anna", "annas password")
HTTP = """
user {user};
pid {root}/nginx.pid;
error_log {root}/error.log;
events {{}}
http {{
    access_log off;
    client_body_temp_path {root}/body;
    proxy_temp_path {root}/proxy;
    fastcgi_temp_path {root}/fastcgi;
    uwsgi_temp_path {root}/uwsgi;
    scgi_temp_path {root}/scgi;
    include {root}/example.conf;
}}
"""


@contextlib.contextmanager
def nginx(root: Path, backend: int):
    """The address of an nginx with the example's settings before a server of this machine, and its certificate."""
    if not (shutil.which("nginx") and shutil.which("openssl")):
        pytest.skip("nginx and openssl are wanted: apt-get install nginx-light openssl")
    port, key, certificate = free_port(), root / "a.key", root / "a.crt"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-keyout", key, "-out", certificate)
    run("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", *names)
    secret = run("openssl", "passwd", "-apr1", ANNA[1]).strip()
    (root / "people").write_text(f"{ANNA[0]}:{secret}\n")
    example = EXAMPLE.read_text()
    for text, instead in {
        "listen 443 ssl": f"listen 127.0.0.1:{port} ssl",
        "/etc/nginx/monailabel.crt": str(certificate),
        "/etc/nginx/monailabel.key": str(key),
        "auth_basic_user_file /etc/nginx/monailabel.htpasswd": f"auth_basic_user_file {root / 'people'}",
        "http://127.0.0.1:8000": f"http://127.0.0.1:{backend}",
    }.items():
        assert example.count(text) == 1
        example = example.replace(text, instead)
    (root / "example.conf").write_text(example)
    (root / "nginx.conf").write_text(HTTP.format(root=root, user=getpass.getuser()))
    run("nginx", "-t", "-c", root / "nginx.conf", "-e", root / "error.log")
    process = subprocess.Popen(["nginx", "-c", root / "nginx.conf", "-e", root / "error.log", "-g", "daemon off;"])
    try:
        until(30, lambda: answers(f"https://localhost:{port}/", certificate))
        yield f"https://localhost:{port}", str(certificate)
    finally:
        process.terminate()
        process.wait(30)


def run(*command) -> str:
    return subprocess.run(list(map(str, command)), check=True, capture_output=True, text=True, cwd="/tmp").stdout


def answers(url, certificate):
    try:
        return requests.get(url, verify=certificate, timeout=5).status_code
    except requests.ConnectionError:
        return None


class Echo(BaseHTTPRequestHandler):
    """Answers with what it was asked."""

    protocol_version = "HTTP/1.1"

    def answer(self):
        size = len(self.rfile.read(int(self.headers.get("Content-Length", 0))))
        told = json.dumps({"path": self.path, "host": self.headers["Host"], "size": size}).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(told)))
        self.end_headers()
        self.wfile.write(told)

    do_GET = do_POST = do_PUT = do_DELETE = answer  # noqa: N815

    def log_message(self, *args):
        pass


@pytest.fixture(scope="module")
def proxy(tmp_path_factory):
    """nginx before a server that tells what reaches it."""
    with ThreadingHTTPServer(("127.0.0.1", 0), Echo) as echo:
        thread = threading.Thread(target=echo.serve_forever)
        thread.start()
        try:
            with nginx(tmp_path_factory.mktemp("nginx"), echo.server_port) as (url, certificate):
                yield lambda method, path, **more: requests.request(
                    method, url + path, **{"verify": certificate, "timeout": 60, "auth": ANNA, **more}
                )
        finally:
            echo.shutdown()
            thread.join()


@pytest.mark.parametrize("auth", [None, ("anna", "wrong"), ("bert", ANNA[1]), ("", "")])
def test_who_has_no_password_is_not_let_in(auth, proxy):
    assert proxy("GET", "/info/", auth=auth).status_code == 401


def test_what_annotating_needs_passes_and_seems_to_come_from_this_machine(proxy):
    for method, path in (
        ("GET", "/info/"),
        ("POST", "/infer/phase1?image=a"),
        ("PUT", "/datastore/label?image=a"),
        ("GET", "/batch/infer"),
    ):
        told = proxy(method, path, data=b"x" * 9 if method != "GET" else None).json()
        assert (told["path"], told["host"].split(":")[0]) == (path, "127.0.0.1")


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "/logs/",
        "/model/phase1",
        "/proxy/dicom/x",
        "/session/a",
        "/static/x",
        "/reload",
        "/info/../logs/",
        "/information",
        "/docs",
    ],
)
def test_other_paths_do_not(path, proxy):
    assert proxy("GET", path).status_code == 404


@pytest.mark.parametrize("whole", [True, False])
def test_an_upload_has_a_largest_size(whole, proxy):
    def chunks(size):
        yield from (bytes(2**20) for _ in range(size >> 20))

    body = bytes if whole else chunks
    assert proxy("POST", "/infer/phase1", data=body(64 * 2**20)).json()["size"] == 64 * 2**20
    with contextlib.suppress(requests.ConnectionError):  # hung up while it was still sent to
        assert proxy("POST", "/infer/phase1", data=body(65 * 2**20)).status_code == 413


def test_without_tls_there_is_nothing(proxy):
    url = proxy("GET", "/info/").url.replace("https", "http")
    assert requests.get(url, auth=ANNA, timeout=60).status_code == 400


@pytest.mark.monailabel
def test_a_mask_through_nginx_is_that_of_the_server(server, tmp_path):
    image = next(iter(server.images()))
    with nginx(tmp_path, int(server.url.rsplit(":", 1)[1])) as (url, certificate):
        arguments = {"verify": certificate, "timeout": 300}
        asked = {"params": {"image": image, "output": "image"}, "data": {"params": "{}"}}
        assert requests.post(f"{url}/infer/phase1", **asked, **arguments).status_code == 401
        answer = requests.post(f"{url}/infer/phase1", **asked, **arguments, auth=ANNA)
        assert answer.status_code == 200
        np.testing.assert_array_equal(np.asarray(Image.open(io.BytesIO(answer.content))), server.infer("phase1", image))
        page = {"Origin": "https://evil.example"}
        assert requests.post(f"{url}/train/phase1", headers=page, auth=ANNA, **arguments).status_code == 403
