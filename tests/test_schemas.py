"""The published schemas are those that the readers use, and other programs' validators agree with ours."""

import json
import random
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator

from ultrarefiner_monai.errors import CodeError, DataError
from ultrarefiner_monai.files import json_text
from ultrarefiner_monai.models.card_schema import check_card
from ultrarefiner_monai.schemas import PUBLISHED, as_data, brief, fault_in, fits, problems, published, without_code

REFERENCE = Path(__file__).parents[1] / "docs/reference"
HASH = "a" * 64
VALUES = (
    *(None, True, -1, 0, 3, 2.5, 10**30, 1e-300, "", "text", HASH, "../x", "/x", "a/../b", "a\\b", "a\nb", "x" * 200),
    *([], ["a"], [3], [None], [[]], {}, {"a": 1}, {"": None}, {"a": {"b": 1}}),
)
ROW = dict.fromkeys(("dataset", "masks", "label", "patient", "official_fold"), "") | {"image": "a/b.png"}
ROW |= {"width": "3", "height": "4", "mask_size": "3x4;5x6", "lesion_pixels": "0"}
ROW |= {"image_sha256": HASH, "mask_sha256": HASH, "phash16": HASH}
REFINER = {"variant": "tiny", "image_size": 64, "prompt_positive_points": 1, "fusion_mode": "mean", "lora_rank": 0}
GOOD: dict[str, Any] = {
    "predictions": {
        "schema": "ultrarefiner_monai/predictions/1",
        **{"dataset": "BUSI", "stage": "phase1", "fold": None, "split": "test"},
        **{"manifest_sha256": HASH, "model_sha256": HASH},
        "items": [{"id": "a", "file": "b/c.nii.gz", "dice": None, "width": 3, "height": 4}],
    },
    "inventory": ROW,
    "model": {
        **{
            "system": "ultrarefiner",
            "stage": "phase3",
            "phase": "phase3",
            "version": "1",
            "image_size": 64,
            "epoch": 3,
        },
        **{"dataset": "BUSI", "fold": 0, "manifest_sha256": HASH, "sha256": HASH, "metric": {"refined_dice": 0.5}},
        "network": {"refiner": REFINER, "coarse": {"variant": "tiny", "size": 64}},
        **{
            "prediction": {"amp": True, "channels": ["a"]},
            "training": {"seed": 1},
            "intended_use": "a",
            "limits": ["b"],
        },
        "data": [dict.fromkeys(("name", "description", "reference", "licence"), "a")],
        "metrics": {"val": {"images": 3, "means": {"a": 0.5, "b": None}, "n": {"a": 3}}},
        "licences": {"code": "a", "initial weights": ["b"]},
    },
    "run": {"status": "finished", "epochs": {"done": 1, "planned": 2}, "warnings": ["a"], "files": []},
    "settings": {"dataset": "BUSI", "fold": 0, "amp": True, "manifest": None, "learning_rate": 0.5},
    "finished": {"model_sha256": HASH},
    "system": {"system": "ultrarefiner"},
    "excluded": [{"id": "a", "reasons": ["b"]}],
    "mlflow_run": {"run_id": "0123abcd", "experiment": "BUSI"},
}


@pytest.mark.parametrize("name", PUBLISHED)
def test_the_reference_has_what_the_code_says(name):
    """Otherwise: python -m ultrarefiner_monai.schemas docs/reference."""
    assert (REFERENCE / f"{name}.schema.json").read_text(encoding="utf-8") == json_text(published(name))
    Draft202012Validator.check_schema(published(name))
    assert f"{name}.schema.json" in (REFERENCE / "files.md").read_text(encoding="utf-8")


def changed(document: Any) -> list[Any]:
    """The document with each value in the place of each of its fields, and without each field."""
    text, found = json.dumps(document), []

    def walk(path: tuple[Any, ...], value: Any) -> None:
        for key in value if isinstance(value, dict) else range(len(value)) if isinstance(value, list) else ():
            for new in (*VALUES, ...):
                again = json.loads(text)
                place = again
                for step in path:
                    place = place[step]
                if new is ...:
                    del place[key]
                else:
                    place[key] = new
                found.append(again)
            walk((*path, key), value[key])

    walk((), document)
    return found


def ours(name: str, schema: Any, document: Any) -> bool:
    """Whether the code takes a document; the network of a card has its stage's schema."""
    if name == "model" and fits(document, schema):
        try:
            check_card(Path("model.json"), document)
        except DataError:
            return False
    return fits(document, schema)


@pytest.mark.parametrize("name", [name for name in PUBLISHED if name != "manifest"])
def test_both_take_and_refuse_the_same(name):
    schema = published(name)
    validator = Draft202012Validator(schema)
    documents = [GOOD[name], *changed(GOOD[name]), *VALUES]
    assert validator.is_valid(GOOD[name]) and ours(name, schema, GOOD[name])
    differing = [document for document in documents if validator.is_valid(document) != ours(name, schema, document)]
    assert not differing[:3]
    assert sum(map(validator.is_valid, documents)) < len(documents)


def test_problems_name_the_field_what_was_expected_and_what_was_found():
    wrong = {
        **GOOD["predictions"],
        "fold": -1,
        "items": [{"id": 3, "file": "../a", "dice": 2, "width": 0}],
        "split": "\n",
    }
    assert list(problems(wrong, published("predictions"))) == [
        "fold: expected a whole number of at least 0 or null, found -1",
        "items[0].height: missing",
        "items[0].id: expected text, found 3",
        "items[0].file: expected a path inside the folder, with '/', found '../a'",
        "items[0].dice: expected a number from 0 to 1 or null, found 2",
        "items[0].width: expected a whole number above 0, found 0",
    ]


@pytest.mark.parametrize("value", ["a\nb", "x" * 10**6, {"a": 1}, [1] * 10**5, "\x1b[31m", 10**4000])
def test_values_are_shown_in_one_short_line(value):
    text = brief(value)
    assert len(text) <= 61 and text.isprintable()


def test_a_network_of_no_reasonable_size_is_refused():
    card = json.loads(json.dumps(GOOD["model"]))
    for part, key, value in (("refiner", "lora_rank", 10**9), ("coarse", "size", 10**6), ("refiner", "width", 10**9)):
        card["network"][part][key] = value
        with pytest.raises(DataError, match=rf"model\.json: network.*{key}"):
            check_card(Path("model.json"), card)
        card = json.loads(json.dumps(GOOD["model"]))


def test_data_enter_a_configuration_and_code_does_not():
    assert as_data({"a": ["5 %"]}, "card") == {"a": ["5 %"]}
    with pytest.raises(CodeError, match=r"card\.a\[1\]: '\$b' would run as code; expected data, rename or remove it"):
        as_data({"a": ["5 %", "$b"]}, "card")
    assert without_code({"a": 1, "b": "@a", "c": {"_target_": "x"}, "_mode_": 1}) == {"a": 1}


def test_texts_of_any_kind_are_looked_at_at_any_depth():
    generator = random.Random(0)
    for _ in range(200):
        value: Any = "$x"
        for _ in range(generator.randint(0, 20)):
            value = generator.choice(([1, value], {"a": 0, "b": value}, {"c": [value]}))
        assert fault_in(value) is not None and fault_in(value, code=True) is None
