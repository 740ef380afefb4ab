"""A server with a password, and MONAI Label's own client, which is also that of 3D Slicer's plugin."""

import json
import os
import subprocess
from dataclasses import replace

import pytest
from conftest import START_S, started
from label_server import png, until

from ultrarefiner_monai.data.images import read_mask

pytestmark = pytest.mark.monailabel

TOKEN = "3f9c1b7d5a2e8064"
# What 3D Slicer's plugin does, in its order.
SLICER = """
import json, sys
from monailabel.client import MONAILabelClient
url, password, image, label, folder = sys.argv[1:]
client = MONAILabelClient(url, tmpdir=folder, client_id="user-xyz")
told = {"wanted": client.auth_enabled(), "without": client.auth_valid_token()}
try:
    client.auth_token("anybody", "wrong")
except Exception as error:
    told["wrong"] = error.status_code
client.update_auth(client.auth_token("anybody", password))
told["with"] = client.auth_valid_token()
told["models"] = sorted(client.info()["models"])
mask, params = client.infer("phase1", image, {"result_extension": ".nrrd", "result_dtype": "uint8"})
told["mask"], told["lesion"] = mask, params["lesion_pixels"]
told["saved"] = client.save_label(image, label, "final", {"label_info": [{"name": "lesion", "idx": 1}]})
told["next"] = client.next_sample("uncertainty_phase1", {})["id"]
print(json.dumps(told))
"""


@pytest.fixture(scope="module")
def locked(server):
    """A second server of the same pictures that wants a password, and scores by itself after a training."""
    log = server.log.with_name("locked.log")
    with started(replace(server, log=log), ULTRAREFINER_TOKEN=TOKEN, MONAI_LABEL_AUTO_UPDATE_SCORING="true") as locked:
        yield locked


def test_only_who_knows_the_password_is_answered(locked):
    assert locked.get("/info/").ok
    for auth in (None, ("anybody", "wrong")):
        answer = locked.get("/info/", auth=auth)
        assert answer.status_code == 401 and "phase1" not in answer.text
    assert TOKEN not in locked.log.read_text(errors="replace")


def test_3d_slicers_client_gets_a_mask_and_saves_a_label(locked, tmp_path):
    image = locked.unlabelled()[0]
    (tmp_path / "label.png").write_bytes(png(read_mask(locked.truth(image))))
    command = [
        os.environ["MONAILABEL_PYTHON"],
        "-c",
        SLICER,
        locked.url,
        TOKEN,
        image,
        tmp_path / "label.png",
        tmp_path,
    ]
    done = subprocess.run(
        command, capture_output=True, text=True, env={**os.environ, "PYTHONPATH": ""}, cwd=tmp_path, timeout=300
    )
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout.splitlines()[-1])
    assert (told["wanted"], told["without"], told["wrong"], told["with"]) == (True, False, 401, True)
    assert told["models"] == ["phase1", "phase2", "phase3"]
    assert told["lesion"] > 0 and told["mask"].endswith(".nrrd")
    assert told["saved"] == {"image": image, "label": image}
    assert told["next"] in locked.images()


def test_a_training_has_its_server_score_the_pictures_anew(locked):
    for image in locked.unlabelled()[:2]:
        locked.put_label(image, read_mask(locked.truth(image)))
    task = locked.train("phase1", max_epochs=1, val_split=-1)
    assert task["status"] == "DONE", "\n".join(task["details"])
    scored = until(START_S, lambda: locked.get("/scoring/").ok)
    assert scored
    assert "could not be started" not in locked.log.read_text(errors="replace")


@pytest.mark.parametrize(
    ("options", "environment", "said"),
    [
        ((), {"ULTRAREFINER_TOKEN": ""}, "ULTRAREFINER_TOKEN: expected a password of at least 16"),
        ((), {"ULTRAREFINER_TOKEN": "short"}, "openssl rand -hex 16"),
        (("--conf", "origins", "*"), {}, "origins: expected such as https://"),
        (("--conf", "upload_mib", "lots"), {}, "upload_mib: expected a whole number"),
    ],
)
def test_a_server_with_settings_that_make_no_sense_does_not_start(options, environment, said, server, tmp_path):
    where = ("--app", server.app, "--studies", server.pictures, "--host", "127.0.0.1", "--port", "0")
    command = [os.environ["MONAILABEL_PYTHON"], "-m", "monailabel.main", "start_server", *where, *options]
    more = {**os.environ, "PYTHONPATH": "", **environment}
    done = subprocess.run(command, capture_output=True, text=True, env=more, cwd=tmp_path, timeout=START_S)
    assert done.returncode != 0
    assert said in done.stderr + done.stdout
