"""A server under attack: expressions in every field of every request, names that lead elsewhere, bodies without end."""

import bz2
import gzip
import io
import json
import os
import subprocess
import time
import zipfile
from urllib.parse import quote

import numpy as np
import pytest
import requests
from label_server import png, until

pytestmark = pytest.mark.monailabel

# All that MONAI Label's web server answers, as its app says it.
ROUTES = """
import importlib, json, pkgutil
import monailabel.endpoints as endpoints
from monailabel.app import app
routers = [importlib.import_module(f"monailabel.endpoints.{module.name}") for module in pkgutil.iter_modules(endpoints.__path__)]
routes = [*app.routes, *(route for module in routers if hasattr(module, "router") for route in module.router.routes)]
found = {(method, route.path) for route in routes if getattr(route, "methods", None) for method in route.methods}
print(json.dumps(sorted(found)))
"""
OPEN = {
    ("GET", "/info/"),
    ("POST", "/activelearning/{strategy}"),
    ("POST", "/infer/{model}"),
    ("GET", "/batch/infer"),
    ("DELETE", "/batch/infer"),
    ("POST", "/batch/infer/{model}"),
    *((method, f"/{task}/") for task in ("train", "scoring") for method in ("GET", "DELETE")),
    ("POST", "/train/{model}"),
    ("POST", "/scoring/{method}"),
    *((method, f"/datastore{what}") for what in ("/", "/image") for method in ("GET", "PUT", "DELETE")),
    *((method, "/datastore/label") for method in ("GET", "PUT", "DELETE")),
    ("GET", "/datastore/image/info"),
    ("GET", "/datastore/label/info"),
}


@pytest.fixture(scope="module")
def routes(tmp_path_factory):
    """(method, path) of everything that MONAI Label opens by itself."""
    command = [os.environ["MONAILABEL_PYTHON"], "-c", ROUTES]
    folder = tmp_path_factory.mktemp("routes")
    done = subprocess.run(
        command, cwd=folder, capture_output=True, text=True, check=True, env={**os.environ, "PYTHONPATH": ""}
    )
    return [tuple(route) for route in json.loads(done.stdout.splitlines()[-1])]


@pytest.fixture
def canary(tmp_path):
    """A file that must not appear, and nothing of the server's must change."""
    yield tmp_path / "ran"
    assert not list(tmp_path.iterdir())


def planted(canary):
    """Values that are code where a configuration is read, in any depth."""
    code = f"$__import__('pathlib').Path('{canary}').touch()"
    target = {"_target_": "pathlib.Path.touch", "self": f"$__import__('pathlib').Path('{canary}')"}
    call = {"_target_": "os.system", "command": f"touch {canary}"}
    return [code, target, call, [code], {"a": {"b": [call]}}, "@network_def", "%inference.json::imports", "$"]


def test_all_routes_but_those_of_annotating_are_closed(server, routes, canary):
    assert set(routes) >= OPEN, "MONAI Label has changed"
    closed = sorted(set(routes) - OPEN)
    assert len(closed) > 30
    for method, path in closed:
        for name in ("phase1", "%2e%2e", "..%2fmain.py", "%24x"):
            answer = server.send(
                method, path.replace("{", "").replace("}", "").replace("model", name).replace("path:path", name)
            )
            assert answer.status_code == 403, (method, path, answer.status_code)


BODIES = {
    "/train/phase1": ("max_epochs", "val_split", "device", "client_id", "logging"),
    "/scoring/uncertainty_phase1": ("client_id", "logging"),
    "/batch/infer/phase1": ("device", "threshold", "label_tag", "gpus", "max_workers", "result_extension", "client_id"),
    "/activelearning/uncertainty_phase1": ("client_id", "logging"),
}
UNDECLARED = (
    "model",
    "method",
    "strategy",
    "image",
    "label",
    "session",
    "description",
    "bundle_path",
    "bundle_root",
    "run_id",
    "tracking_uri",
    "displayable_configs",
    "_target_",
    "$x",
    "imports",
    "_id",
    "a\nforged",
)


@pytest.mark.parametrize("path", BODIES)
def test_no_field_of_a_body_is_run(path, server, canary):
    for value in planted(canary):
        for name in (*BODIES[path], *UNDECLARED):
            answer = server.post(path, json={name: value})
            assert answer.status_code in (400, 422), (name, value, answer.text)
            assert "\n" not in json.dumps(answer.json())
    assert not canary.exists()


@pytest.mark.parametrize("phase", ["phase1", "phase2", "phase3"])
def test_no_field_of_a_form_is_run(phase, server, canary):
    image = next(iter(server.images()))
    options = server.get("/info/").json()["models"][phase]["config"]
    for value in planted(canary):
        for name in (*options, "client_id", "label_tag", "result_extension", "result_dtype", "logging", *UNDECLARED):
            where = {"params": {"image": image}, "data": {"params": json.dumps({name: value})}}
            answer = server.post(f"/infer/{phase}", **where)
            assert answer.status_code == 400, (name, value, answer.text)
    assert not canary.exists()


def test_no_parameter_of_an_address_is_run(server, canary):
    files = {"file": ("x.png", png(np.ones((9, 9)))), "label": ("x.png", png(np.ones((9, 9))))}
    for text in (value for value in planted(canary) if isinstance(value, str)):
        for method, path in OPEN:
            for name in (
                "image",
                "label",
                "id",
                "tag",
                "output",
                "session_id",
                "model",
                "images",
                "run_sync",
                "limit_cases",
            ):
                part = path.replace("{model}", "phase1").replace("{method}", "x").replace("{strategy}", "x")
                if path not in ("/train/{model}", "/batch/infer/{model}"):  # those would begin
                    answer = server.send(
                        method, part, params={name: text, "image": text}, files=files if method == "PUT" else None
                    )
                    assert answer.status_code < 500, (
                        method,
                        part,
                        name,
                        answer.text,
                    )
        for path in ("/train/", "/infer/", "/batch/infer/", "/scoring/", "/activelearning/"):
            answer = server.post(path + quote(text, safe=""), data={"params": "{}"} if path == "/infer/" else None)
            assert answer.status_code in (400, 403, 404), (path, answer.text)
    server.delete("/datastore/image", params={"id": "$"})
    assert not canary.exists()


NAMES = ["../x", "..", "/tmp/x", "a/b", "a\\b", "a\0b", "a\nb", "a" * 201, "\u202ex", "$x\n", ".x"]


@pytest.mark.parametrize("name", NAMES)
def test_no_name_leads_out_of_the_folder(name, server, canary):
    before = sorted(path for path in server.pictures.parent.rglob("*") if "logs" not in path.parts)
    image, mask = next(iter(server.images())), png(np.ones((9, 9)))
    asked = [
        server.put("/datastore/image", params={"image": name}, files={"file": ("x.png", mask)}),
        server.put("/datastore/label", params={"image": name}, files={"label": ("x.png", mask)}),
        server.put("/datastore/label", params={"image": image, "tag": name}, files={"label": ("x.png", mask)}),
        server.delete("/datastore/image", params={"id": name}),
        server.get("/datastore/image", params={"image": name}),
        server.get("/datastore/label", params={"label": name, "tag": "final"}),
        server.get("/datastore/label", params={"label": image, "tag": name}),
        server.ask("phase1", name),
        server.ask("phase1", image, save_label=True, label_tag=name),
        server.post("/batch/infer/phase1", json={"label_tag": name}),
        server.put("/datastore/image", params={"image": "new"}, files={"file": (f"x.png{name}", mask)}),
        server.ask("phase1", files={"file": (f"x.png{name}", mask)}),
    ]
    assert [answer.status_code for answer in asked if answer.status_code not in (400, 404)] == []
    server.delete("/datastore/label", params={"id": image, "tag": name})
    assert sorted(path for path in server.pictures.parent.rglob("*") if "logs" not in path.parts) == before


@pytest.mark.parametrize(
    "params", ["[]", "3", "{", "[" * 10**5, "\0", '{"client_id": "a\\nINFO forged"}', '{"other": 1}']
)
def test_a_form_that_is_no_object_is_refused_in_one_line(params, server):
    image, mask = next(iter(server.images())), png(np.ones((9, 9)))
    asked = [
        server.post("/infer/phase1", params={"image": image}, data={"params": params}),
        server.put(
            "/datastore/image", params={"image": "new"}, data={"params": params}, files={"file": ("x.png", mask)}
        ),
        server.put(
            "/datastore/label", params={"image": image}, data={"params": params}, files={"label": ("x.png", mask)}
        ),
    ]
    assert [answer.status_code for answer in asked] == [400] * 3
    assert "new" not in server.images()


def test_a_label_of_3d_slicer_is_kept_without_the_names_of_its_segments(server):
    image = server.unlabelled()[0]
    params = json.dumps({"label_info": [{"name": "$x", "idx": 1}], "client_id": "user-xyz"})
    mask = png(np.ones(np.asarray(server.infer("phase1", image)).shape))
    answer = server.put(
        "/datastore/label", params={"image": image}, data={"params": params}, files={"label": ("x.png", mask)}
    )
    assert answer.status_code == 200
    assert "label_info" not in server.get("/datastore/label/info", params={"label": image, "tag": "final"}).json()
    server.delete("/datastore/label", params={"id": image, "tag": "final"})


def test_weights_that_are_a_pickle_are_not_taken(server, canary):
    before = server.model("phase1").read_bytes()
    pickle = f"cposix\nsystem\n(S'touch {canary}'\ntR.".encode()
    for name in ("phase1", "..%2fphase1", "phase1%2f..%2f..%2fmain.py"):
        assert server.put(f"/model/{name}", files={"file": ("model.pt", pickle)}).status_code == 403
    assert server.model("phase1").read_bytes() == before


def test_an_archive_is_not_unpacked(server, canary):
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("../../../../.." + str(canary), b"escaped")
        archive.writestr("bomb", bytes(2**24))
    answer = server.put("/session/", params={"uncompress": True}, files={"files": ("a.zip", buffer.getvalue())})
    assert answer.status_code == 403


def test_an_uploaded_folder_is_no_place_of_code(server, canary):
    """Python runs a sitecustomize.py in PYTHONPATH, where MONAI Label puts the `bundle_path` of a task."""
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("sitecustomize.py", f"open({str(canary)!r}, 'w')")
    uploaded = server.put("/session/", params={"uncompress": True}, files={"files": ("a.zip", buffer.getvalue())})
    path = uploaded.json()["session_info"]["image"] if uploaded.ok else str(canary.parent)
    asked = server.post("/scoring/uncertainty_phase1", json={"bundle_path": path})
    if asked.ok:
        until(60, lambda: server.get("/scoring/").json()["status"] in ("DONE", "ERROR"))
    assert not canary.exists()
    assert (uploaded.status_code, asked.status_code) == (403, 400)


def bomb(encoding="gzip", sizes="90 30000 30000"):
    content = {"gzip": gzip.compress, "bzip2": bz2.compress}[encoding](bytes(300 * 2**20))
    head = f"NRRD0004\ntype: uchar\ndimension: 3\nsizes: {sizes}\nencoding: {encoding}\n\n"
    return head.encode() + content


def endless(field):
    return f"NRRD0004\ntype: uchar\ndimension: 2\nsizes: 4 4\nencoding: raw\n{field}\n\n".encode()


def block():
    return b"NRRD0004\ntype: block\nblock size: 9000000000\ndimension: 2\nsizes: 4 4\nencoding: raw\n\n"


BOMBS = {
    "many values.nrrd": bomb,
    "few values.nrrd": lambda: bomb(sizes="1 4 4"),
    "bzip2.nrrd": lambda: bomb("bzip2", sizes="1 4 4"),
    "lines.nrrd": lambda: endless("line skip: 9000000000"),
    "bytes.nrrd": lambda: endless("byte skip: 9000000000"),
    "block.nrrd": block,
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_small_label_that_asks_for_much_is_refused_at_once(name, server):
    image, content = server.unlabelled()[0], BOMBS[name]()
    start = time.monotonic()
    answer = server.send_label(image, name, content)
    assert answer.status_code == 400
    assert time.monotonic() - start < 2


HEAD = b'--x\r\nContent-Disposition: form-data; name="file"; filename="x.png"\r\n\r\n'


def chunks(size, head=b""):
    yield head
    yield from (bytes(2**16) for _ in range(0, size, 2**16))


def test_a_body_without_end_is_refused(server):
    form = {"Content-Type": "multipart/form-data; boundary=x"}
    for body in (HEAD + bytes(65 * 2**20), chunks(65 * 2**20, HEAD)):
        assert status(lambda body=body: server.post("/infer/phase1", data=body, headers=form)) == 413
    for body in (b"[" * 2**21, chunks(2**21)):
        assert (
            status(
                lambda body=body: server.post("/train/phase1", data=body, headers={"Content-Type": "application/json"})
            )
            == 413
        )
    assert server.get("/info/").ok


def status(send):
    """The status of an answer; 413 also where the server has hung up while it was still sent to."""
    try:
        return send().status_code
    except requests.ConnectionError:
        return 413


def test_pages_of_other_sites_and_other_names_are_refused(server):
    for headers in (
        {"Origin": "https://evil.example"},
        {"Origin": "null"},
        {"Sec-Fetch-Site": "cross-site"},
        {"Host": "evil.example"},
    ):
        answer = server.post("/train/phase1", data="{}", headers={"Content-Type": "text/plain", **headers})
        assert answer.status_code == 403
        assert "access-control-allow-origin" not in answer.headers
    preflight = {"Origin": "https://evil.example", "Access-Control-Request-Method": "POST"}
    answer = server.send("OPTIONS", "/train/", headers=preflight)
    assert answer.status_code == 400 and "access-control-allow-origin" not in answer.headers
    assert server.get("/info/", headers={"Origin": server.url}).ok


def test_what_the_folder_says_of_others_is_not_believed(server):
    """A folder of strangers may hold MONAI Label's own list of what is in it."""
    listed = json.loads((server.pictures / "datastore_v2.json").read_text())
    (server.pictures.parent / "secret.png").write_bytes(b"secret")
    listed["objects"]["../secret"] = {"image": {"ext": ".png", "info": {}}, "labels": {}}
    (server.pictures / "datastore_v2.json").write_text(json.dumps(listed))
    (server.pictures / "TOUCH.png").write_bytes(png(np.ones((9, 9))))  # lets the server read its list again
    try:
        assert until(30, lambda: "TOUCH" in server.images())
        assert "../secret" not in server.images()
        assert server.get("/datastore/image", params={"image": "../secret"}).status_code == 404
        assert server.delete("/datastore/image", params={"id": "../secret"}).status_code == 404
    finally:
        (server.pictures / "TOUCH.png").unlink()
    assert until(30, lambda: "TOUCH" not in [*server.images(), *server.unlabelled()])  # as the tests to come expect
    assert (server.pictures.parent / "secret.png").exists()
