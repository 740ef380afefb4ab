"""What goes over the wire: credentials where they belong and nowhere else, the right host, nothing of the log."""

import base64
import logging
import shutil
import ssl
import subprocess

import pytest

from ultrarefiner_monai.errors import DataError

pytest.importorskip("dicomweb_client", reason="DICOM is an optional extra")

from ultrarefiner_monai.deploy.dicomweb.server import Server
from ultrarefiner_monai.deploy.dicomweb.session import TOKEN, NoAnswerError


def heads(pacs):
    """The headers of each request, once a study was listed."""
    Server(pacs.url).instances(pacs.study)
    return [headers for _, _, headers in pacs.server.asked]


def test_a_request_names_the_host_with_its_port_and_asks_for_no_compression(pacs):
    for headers in heads(pacs):
        assert headers["Host"] == f"127.0.0.1:{pacs.server.server_port}"
        assert headers["Accept-Encoding"] == "identity" and "Authorization" not in headers


def test_a_user_and_password_come_from_netrc(pacs, tmp_path):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login reader password secret\n")
    expected = f"Basic {base64.b64encode(b'reader:secret').decode()}"
    assert {headers["Authorization"] for headers in heads(pacs)} == {expected}


def test_a_token_comes_from_the_environment_before_netrc_and_is_in_no_log(pacs, tmp_path, monkeypatch, caplog):
    (tmp_path / "netrc").write_text("machine 127.0.0.1 login reader password secret\n")
    monkeypatch.setenv(TOKEN, "ab.cd-ef")
    with caplog.at_level(logging.DEBUG):
        assert {headers["Authorization"] for headers in heads(pacs)} == {"Bearer ab.cd-ef"}
    assert "ab.cd-ef" not in caplog.text


@pytest.mark.parametrize("token", ["two words", "line\nAuthorization: other", "größe"])
def test_what_is_no_token_is_refused_and_not_shown(token, pacs, monkeypatch):
    monkeypatch.setenv(TOKEN, token)
    with pytest.raises(DataError, match=TOKEN) as refused:
        Server(pacs.url)
    assert token.split()[0] not in str(refused.value) and not pacs.server.asked


def test_a_certificate_is_checked_against_the_authority_that_is_named(pacs, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("openssl, which makes the certificate, is not installed")
    key, certificate = tmp_path / "key.pem", tmp_path / "certificate.pem"
    names = ("-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost")
    made = ("openssl", "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "2", *names)
    subprocess.run([*made, "-keyout", key, "-out", certificate], check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate, key)
    pacs.server.socket = context.wrap_socket(pacs.server.socket, server_side=True)
    monkeypatch.setenv("NO_PROXY", "localhost")
    url = f"https://localhost:{pacs.server.server_port}/dicom-web"
    with pytest.raises(NoAnswerError, match=r"no answer \(SSLError\); name the file .* in REQUESTS_CA_BUNDLE"):
        Server(url).instances(pacs.study)
    monkeypatch.setenv("REQUESTS_CA_BUNDLE", str(certificate))
    assert len(Server(url).instances(pacs.study)) == 5
