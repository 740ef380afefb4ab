"""What a student's training is completed by its teacher's card to, and what does not go with the teacher."""

import json

import pytest
from untrained import SIZE, card_of

from ultrarefiner_monai.bundle.preflight import Request, decide
from ultrarefiner_monai.bundle.preflight.networks import resolve_uniultra
from ultrarefiner_monai.bundle.preflight.request import Substitutions
from ultrarefiner_monai.errors import DataError

OWN = {
    **{"variant": None, "image_size": None, "adapter_ratio": 0.25, "adapter_scale": 0.5, "edge": "directions"},
    **{
        "prompt_source": "truth_box",
        "prompt_maps": None,
        "levels": None,
        "finetune_epochs": 0,
        "teacher_checkpoint": None,
    },
}


@pytest.fixture
def resolved(tmp_path):
    """What the resolver makes of a student's keys, with a teacher whose card has these settings, or none."""

    def resolve(teacher=None, mode="train", **keys):
        request = Request.of(
            "distill", {**OWN, "bundle_root": "", "dataset": "BUSI", "epochs": 10, "mode": mode} | keys
        )
        starts = {}
        if teacher is not None:
            card = card_of("adapt")
            card["network"]["sam"] |= teacher
            (tmp_path / "model.json").write_text(json.dumps(card))
            starts = {"teacher_checkpoint": str(tmp_path / "model.pt")}
        return resolve_uniultra(request, False, Substitutions(strict=True), starts).settings

    return resolve


@pytest.mark.parametrize(
    ("teacher", "keys", "expected"),
    [
        ({}, {}, ("lite_mini", SIZE, "embedding")),
        ({}, {"variant": "lite_medsam"}, ("lite_mini", SIZE, "embedding")),
        ({"variant": "large"}, {}, ("mini", SIZE, "deep")),
        ({"variant": "large"}, {"levels": "fpn"}, ("mini", SIZE, "fpn")),
        ({"variant": "large", "adapter_ratio": 0}, {}, ("mini", SIZE, "fpn")),
        (None, {}, ("mini", 1024, "deep")),
        (None, {"variant": "lite_medsam"}, ("lite_mini", 256, "embedding")),
    ],
)
def test_a_student_follows_its_teacher(teacher, keys, expected, resolved):
    found = resolved(teacher, **keys)
    assert (found["variant"], found["image_size"], found["levels"]) == expected


@pytest.mark.parametrize("variant", ["lite_medsam", "lite_mini"])
def test_an_evaluation_needs_no_teacher(variant, resolved):
    assert resolved(mode="evaluate", variant=variant)["variant"] == "lite_mini"


def test_an_evaluation_follows_the_models_own_card(tmp_path, resolved):
    """As `cv` predicts with a student whose variant only its teacher's card has told."""
    (tmp_path / "model.json").write_text(json.dumps(card_of("distill")))
    for place in ({"output_dir": str(tmp_path)}, {"checkpoint": str(tmp_path / "model.pt")}):
        found = resolved(mode="evaluate", **place)
        assert (found["variant"], found["image_size"]) == ("lite_mini", SIZE)
    with pytest.raises(
        DataError, match="variant large: its student is mini, and that of the model, lite_mini, is lite_mini"
    ):
        resolved(mode="evaluate", output_dir=str(tmp_path), variant="large")


@pytest.mark.parametrize(
    ("teacher", "keys", "said"),
    [
        (
            {},
            {"levels": "deep"},
            "levels deep: a LiteMedSAM teacher has no stages like its student's; choose embedding",
        ),
        (
            {"variant": "large"},
            {"levels": "deep", "adapter_ratio": 0},
            "levels deep: without adapters .* choose fpn or embedding",
        ),
        (
            {},
            {"variant": "large"},
            "variant large: its student is mini, and that of the teacher .*, lite_medsam, is lite_mini",
        ),
        ({}, {"image_size": 2 * SIZE}, f"image_size {2 * SIZE}: a student sees images as its teacher does, {SIZE}"),
        ({"image_size": 60}, {}, "image_size 60: expected a positive multiple of 32"),
        ({}, {"finetune_epochs": 10}, "finetune_epochs 10: expected fewer than all 10 epochs"),
        (
            None,
            {"mode": "evaluate", "teacher_checkpoint": "m.pt"},
            "an evaluation scores the student: --checkpoint FILE",
        ),
    ],
)
def test_what_does_not_go_with_a_teacher_is_told_in_one_line(teacher, keys, said, resolved):
    with pytest.raises(DataError, match=said) as caught:
        resolved(teacher, **keys)
    assert "\n" not in str(caught.value)


def test_without_a_teacher_the_next_step_is_told(tmp_path):
    root = tmp_path / "bundles" / "uniultra"
    root.mkdir(parents=True)
    keys = {**OWN, "bundle_root": str(root), "dataset": "PHANTOM", "epochs": 10}
    with pytest.raises(
        DataError, match=r"no adapt model at .*model\.pt; train adapt on fold 0 first or name --teacher_checkpoint FILE"
    ):
        decide(Request.of("distill", keys))


def test_models_of_both_stages_have_a_folder_each(tmp_path):
    request = Request.of("distill", {**OWN, "bundle_root": str(tmp_path), "dataset": "BUSI"})
    folders = [request.results_of(stage).name for stage in ("adapt", "distill")]
    assert folders == ["models", "models_distill"]
