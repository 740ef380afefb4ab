"""Which images got worse, and the reading of what they share."""

import math

from ultrarefiner_monai.reports.degraded import worse

CUTS = [0.2, 0.4]


def row(name: str, coarse: float, refined: float, share: float = 0.5, **facts) -> dict:
    named = {"dataset": "X", "id": name, "patient": name, "class": "benign", "fold": 0, "lesions": 1}
    return {**named, "coarse_dice": coarse, "refined_dice": refined, "lesion_share": share, **facts}


def test_worst_first_and_the_limit_is_beyond_002():
    rows = [row("a", 0.52, 0.5), row("b", 0.5, 0.4), row("c", 0.9, 0.1, fold="test"), row("d", math.nan, 0.0)]
    found = worse(rows, CUTS)
    assert [entry["id"] for entry in found["rows"]] == ["c", "b"] and (found["images"], found["of"]) == (2, 3)
    assert found["rows"][0]["place"] == "test" and found["rows"][0]["size"] == "large"


def test_reading_names_what_is_more_frequent_among_them():
    bad = [row(f"bad{i}", 0.4, 0.1, share=0.1, coarse_precision=math.nan if i == 0 else 0.5) for i in range(3)]
    good = [row(f"good{i}", 0.9, 0.9) for i in range(7)]
    found = worse(bad + good, CUTS)
    traits = {trait["trait"]: trait for trait in found["traits"]}
    assert (traits["coarse Dice below 0.5"]["worse"], traits["coarse Dice below 0.5"]["all"]) == (1.0, 0.3)
    assert traits["blank coarse mask (no prompt)"]["images"] == 1 and found["rows"][0]["coarse_blank"]
    assert "coarse Dice below 0.5 (100 % of them, 30 % of all images)" in found["reading"]
    assert "small lesion" in found["reading"] and "blank" not in found["reading"]  # one image says nothing


def test_nothing_to_read():
    assert worse([row("a", 0.5, 0.6)], CUTS)["reading"] == "No image got worse by more than that."
    assert worse([row("a", 0.9, 0.6)], CUTS)["reading"].startswith("No trait looked at")
