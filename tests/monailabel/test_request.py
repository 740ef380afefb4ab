"""What a request to the server may hold; no server needed."""

import json
import tempfile
from pathlib import Path

import pytest

from ultrarefiner_monai.deploy.monailabel.request import (
    BATCH,
    OWN,
    TRAIN,
    checked,
    device_key,
    is_plain,
    is_upload,
    option_keys,
    sent,
)
from ultrarefiner_monai.errors import DataError

CODE = "$__import__('os').system('true')"


@pytest.fixture
def keys(models):
    card = json.loads(models["phase3"].with_suffix(".json").read_text())
    return [*BATCH, device_key(["NVIDIA H100:0", "cuda:0"]), *option_keys(card)]


def test_values_are_read_as_they_are_meant(keys):
    request = {
        "image": "one",
        "threshold": "0.4",
        "box": "false",
        "positive_points": "2",
        "show": ["refined", "coarse"],
    }
    assert checked(request, keys, OWN) == {
        "image": "one",
        "threshold": 0.4,
        "box": False,
        "positive_points": 2,
        "show": "refined",
    }
    assert checked({"device": ["NVIDIA H100:0"]}, keys) == {"device": "NVIDIA H100:0"}


def test_what_3d_slicer_sends_passes(keys):
    sent = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz", "device": "cpu"}
    assert checked(sent, keys) == sent


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("threshold", 1.5, "expected a number of at least 0 and at most 1, found 1.5"),
        ("threshold", "0,4", "found '0,4'"),
        ("threshold", float("nan"), "expected a number"),
        ("show", "best", "expected one of refined, coarse, found 'best'"),
        ("positive_points", 10**7, "at most 100"),
        ("positive_points", 1.5, "expected a whole number"),
        ("box_margin", -0.1, "at least 0"),
        ("box", 1, "expected true or false"),
        ("device", "tpu", "expected one of cpu, cuda, NVIDIA H100:0, cuda:0, found 'tpu'"),
        ("result_extension", ".jpg", "expected one of .png"),
        ("result_extension", "/../../x.png", "expected one of .png"),
        ("result_dtype", "object", "expected one of uint8"),
    ],
)
def test_values_out_of_range_are_refused(name, value, said, keys):
    with pytest.raises(DataError, match=f"^request: {name}: .*") as told:
        checked({name: value}, keys)
    assert said in str(told.value)


def test_no_key_takes_an_expression(keys):
    for key in (*keys, *TRAIN):
        if key.kind != "text":
            with pytest.raises(DataError, match="expected"):
                checked({key.name: CODE}, [key])


def test_unknown_keys_are_refused_together_with_what_was_meant(keys):
    with pytest.raises(DataError, match=r"unknown key 'treshold': did you mean 'threshold'.*; unknown key 'boxes'"):
        checked({"treshold": 0.4, "boxes": True, "box": True}, keys)
    with pytest.raises(DataError, match="unknown key 'epochs': did you mean 'max_epochs'"):
        checked({"epochs": 3}, TRAIN)
    for path in ("model_filename", "tracking_uri", "run_id"):
        with pytest.raises(DataError, match=f"unknown key '{path}'"):
            checked({path: "../../x"}, [*keys, *TRAIN])


@pytest.mark.parametrize("name", sorted(OWN))
def test_a_client_does_not_send_what_the_server_adds(name, keys):
    with pytest.raises(DataError, match=f"unknown key '{name}'"):
        checked({name: "/tmp"}, [*keys, *TRAIN])


@pytest.mark.parametrize("name", ["client_id", "label_tag"])
@pytest.mark.parametrize("value", ["a\nINFO forged", "../x", "a\0", "a" * 201, "\u202ex", "\ud800"])
def test_a_text_is_a_name(name, value, keys):
    with pytest.raises(DataError, match=f"^request: {name}: expected") as told:
        checked({name: value}, keys)
    assert str(told.value).isprintable()


@pytest.mark.parametrize("text", ["[]", "3", '"a"', "{", "{'a': 1}", "[" * 10**5, '{"a": ' + "9" * 5000 + "}", "\0"])
def test_a_form_holds_an_object(text):
    with pytest.raises(DataError, match=r"^params: expected an object of JSON"):
        sent(text)


def test_a_form_may_hold_nothing():
    assert sent("") == sent("{}") == {}


LEADS_ELSEWHERE = [
    "..",
    "../a",
    "/a",
    "a/b",
    "a\\b",
    ".a",
    "",
    "a\0b",
    "a\nb",
    "a\x1b[31m",
    "\u202ea",
    "ä" * 101,
    "\ud800",
]


@pytest.mark.parametrize("name", LEADS_ELSEWHERE)
def test_a_name_that_leads_elsewhere_is_not_plain(name):
    assert not is_plain(name)
    assert is_plain("case 1.2")


def test_only_files_that_came_with_a_request_are_uploads(tmp_path):
    with tempfile.NamedTemporaryFile(suffix=".png") as file:
        assert is_upload(file.name)
        link = Path(tempfile.gettempdir()) / "tmplink0000.png"
        link.symlink_to(file.name)
        try:
            assert not is_upload(str(link))
        finally:
            link.unlink()
    assert not is_upload(str(tmp_path / "tmpabcdefgh.png"))
    assert not is_upload(str(Path(tempfile.gettempdir()) / "patient.png"))
    assert not is_upload(str(Path(tempfile.gettempdir()) / "tmpabcdefgh" / ".." / ".." / "etc" / "passwd"))
