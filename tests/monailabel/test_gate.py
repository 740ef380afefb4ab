"""Who is let in by the gate before a MONAI Label server, and what is let through; no server needed."""

import base64

import pytest

pytest.importorskip("starlette.middleware.body_limit", reason="this release of Starlette limits no bodies")
testclient = pytest.importorskip("starlette.testclient", reason="Starlette's client wants httpx2")

from starlette.requests import Request  # noqa: E402
from starlette.responses import JSONResponse  # noqa: E402

from ultrarefiner_monai.deploy.monailabel.gate import OPEN, TOKEN, Gate, origins_of, password, upload_bytes  # noqa: E402
from ultrarefiner_monai.errors import DataError  # noqa: E402

SECRET = "0123456789abcdef"
HERE, THERE = "http://127.0.0.1:8000", "http://192.168.1.5:8000"
VIEWER = "https://viewer.example"


async def behind(scope, receive, send):
    """Answers with the number of bytes that it was sent."""
    size = 0
    async for chunk in Request(scope, receive).stream():
        size += len(chunk)
    await JSONResponse({"size": size})(scope, receive, send)


def client(token=None, at=HERE, limit=2**21):
    return testclient.TestClient(Gate(behind, token, [VIEWER], limit), base_url=at)


def basic(password, user="anybody"):
    return "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()


@pytest.mark.parametrize("at", [HERE, "http://localhost:8000", "http://[::1]:8000", "http://127.0.0.2:8000"])
def test_programs_of_this_machine_need_no_password(at):
    assert client(at=at).get("/info/").status_code == 200


@pytest.mark.parametrize("at", [THERE, "http://[2001:db8::1]:8000", "http://172.17.0.2:8000"])
def test_without_a_password_nobody_else_is_let_in_whatever_address_the_server_is_bound_to(at):
    for host in ("127.0.0.1:8000", "localhost", None):
        answer = client(at=at).get("/info/", headers={"host": host} if host else {})
        assert (answer.status_code, TOKEN in answer.json()["detail"]) == (403, True)


@pytest.mark.parametrize(
    "host", ["evil.example", "evil.example:8000", "localhost.evil.example", "127.0.0.1.evil.example", "", "[", "a b"]
)
def test_a_name_that_leads_here_by_somebody_elses_wish_is_refused(host):
    assert client().get("/info/", headers={"host": host}).status_code == 403


@pytest.mark.parametrize("token", [None, SECRET])
@pytest.mark.parametrize(
    "headers",
    [
        {"origin": "https://evil.example"},
        {"origin": "http://127.0.0.1:8001"},
        {"origin": "http://127.0.0.1"},
        {"origin": "https://viewer.example.evil.example"},
        {"origin": "http://viewer.example"},
        {"origin": "null"},
        {"origin": ""},
        {"sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "same-site"},
    ],
)
@pytest.mark.parametrize(
    "kind", ["text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x", "application/json"]
)
def test_a_page_of_another_site_may_not_ask_even_without_a_preflight(kind, headers, token):
    told = {"content-type": kind, "authorization": basic(SECRET), **headers}
    assert client(token).post("/train/phase1", headers=told, content=b"{}").status_code == 403


@pytest.mark.parametrize(
    "headers",
    [
        {"origin": HERE},
        {"origin": VIEWER, "sec-fetch-site": "cross-site"},
        {"sec-fetch-site": "none"},
        {"sec-fetch-site": "same-origin"},
    ],
)
def test_the_servers_own_pages_and_listed_ones_may_ask(headers):
    assert client().post("/train/phase1", headers=headers).status_code == 200


@pytest.mark.parametrize(
    "authorization", [f"Bearer {SECRET}", f"bearer {SECRET}", basic(SECRET), basic(SECRET, "a"), basic(SECRET, "")]
)
def test_the_password_opens_from_everywhere(authorization):
    for at in (HERE, THERE, "https://label.example"):
        assert client(SECRET, at).get("/info/", headers={"authorization": authorization}).status_code == 200


WRONG = [
    "",
    "Bearer",
    "Bearer ",
    f"Bearer {SECRET}0",
    f"Bearer {SECRET[:-1]}",
    f"Digest {SECRET}",
    SECRET,
    basic(""),
    basic("x"),
    basic(SECRET[:-1]),
    "Basic %%%",
    "Basic /w==",
    "Basic " + base64.b64encode(SECRET.encode()).decode(),
]


@pytest.mark.parametrize("authorization", WRONG)
@pytest.mark.parametrize("path", ["/info/", "/datastore/image?image=x", "/auth/token/valid", "/logs/", "/nothing"])
def test_without_it_nothing_is_told_not_even_what_there_is(path, authorization):
    answer = client(SECRET).get(path, headers={"authorization": authorization})
    assert answer.status_code == 401
    assert answer.headers["www-authenticate"].startswith("Basic ")
    assert SECRET not in answer.text


def test_3d_slicers_way_to_a_token():
    """As `MONAILabelClient.auth_enabled`, `auth_token` and `auth_valid_token` ask."""
    ask = client(SECRET, THERE)
    assert ask.get("/auth/").json() == {"enabled": True}
    form = {"username": "anybody", "grant_type": "password"}
    assert ask.post("/auth/token", data={**form, "password": "wrong"}).status_code == 401
    assert ask.post("/auth/token", data=form).status_code == 401
    told = ask.post("/auth/token", data={**form, "password": SECRET}).json()
    headers = {"authorization": f"{told['token_type']} {told['access_token']}"}
    assert ask.get("/auth/token/valid", headers=headers).status_code == 200
    assert ask.get("/info/", headers=headers).status_code == 200


def test_where_no_password_is_wanted_there_is_no_way_to_a_token():
    assert client().get("/auth/").status_code == 403
    assert client().post("/auth/token", data={"password": ""}).status_code == 403


CLOSED = [
    ("GET", "/"),
    ("GET", "/docs"),
    ("GET", "/openapi.json"),
    ("GET", "/static/ohif/index.html"),
    ("POST", "/reload"),
    ("GET", "/logs/"),
    ("GET", "/logs/gpu"),
    ("GET", "/model/phase1"),
    ("PUT", "/model/phase1"),
    ("DELETE", "/model/phase1"),
    ("PUT", "/session/"),
    ("GET", "/session/a"),
    ("GET", "/proxy/dicom/studies"),
    ("POST", "/proxy/dicom/wado/studies"),
    ("GET", "/ohif/index.html"),
    ("POST", "/infer/wsi/phase1"),
    ("POST", "/infer/wsi_v2/phase1"),
    ("GET", "/datastore/dataset"),
    ("PUT", "/datastore/image/info"),
    ("PUT", "/datastore/label/info"),
    ("PUT", "/datastore/updatelabelinfo"),
    ("PATCH", "/info/"),
    ("POST", "/info/../logs/"),
    ("GET", "//info"),
    ("POST", "/infer/"),
    ("POST", "/train/"),
    ("POST", "/scoring/"),
]


@pytest.mark.parametrize(("method", "path"), CLOSED)
def test_what_annotating_does_not_need_is_closed(method, path):
    for token in (None, SECRET):
        answer = client(token).request(method, path, headers={"authorization": f"Bearer {SECRET}"})
        assert answer.status_code == 403


def test_what_is_open_is_let_through():
    for path, methods in OPEN.items():
        for method in methods:
            assert client().request(method, path.replace("*", "phase1")).status_code == 200
            assert client().request(method, path.replace("*", "phase 1") + "/").status_code == 200


@pytest.mark.parametrize(
    "query", ["image=a%0AINFO", "image=%00", "a%1b=1", "image=%E2%80%AEx", "image=" + "a" * 201, "image=%FF"]
)
def test_letters_that_forge_lines_and_endless_names_are_refused(query):
    assert client().get(f"/datastore/image?{query}").status_code == 400
    assert client().get("/datastore/image?image=K%C3%A4se 1").status_code == 200


def in_chunks(size, chunk=2**16):
    for _ in range(0, size, chunk):
        yield b" " * chunk


@pytest.mark.parametrize(
    ("kind", "limit"), [("multipart/form-data; boundary=x", 2**21), ("application/json", 2**20), ("", 2**20)]
)
@pytest.mark.parametrize("whole", [True, False])
def test_a_body_has_a_largest_size_announced_or_not(whole, kind, limit):
    for size, status in ((limit, 200), (limit + 2**16, 413)):
        body = b" " * size if whole else in_chunks(size)
        answer = client().post("/train/phase1", content=body, headers={"content-type": kind})
        assert answer.status_code == status
        assert status == 413 or answer.json() == {"size": limit}


@pytest.mark.parametrize("token", ["", "short", "a" * 15, "with space in it all", "ümlaut-ümlaut-ümlaut", "a\nb" * 9])
def test_a_password_that_is_none_is_refused(token):
    with pytest.raises(DataError, match=f"{TOKEN}: expected a password of at least 16") as told:
        password({TOKEN: token})
    assert not token or token not in str(told.value)


def test_a_password_is_optional():
    assert password({}) is None
    assert password({TOKEN: SECRET}) == SECRET


def test_origins_are_separated_by_commas():
    assert origins_of("") == []
    assert origins_of("https://a.example, http://127.0.0.1:3000") == ["https://a.example", "http://127.0.0.1:3000"]
    for text in ("*", "a.example", "https://a.example/", "https://a.example/page", "ftp://a.example", "null"):
        with pytest.raises(DataError, match="without a path"):
            origins_of(text)


def test_the_largest_upload_is_a_number():
    assert upload_bytes("2") == 2**21
    for text in ("0", "-1", "1.5", "", "2000", "²"):
        with pytest.raises(DataError, match="upload_mib: expected a whole number from 1 to 1024"):
            upload_bytes(text)


def test_web_sockets_are_closed():
    with pytest.raises(testclient.WebSocketDisconnect), client().websocket_connect("/info/"):
        pass
