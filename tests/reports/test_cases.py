"""Figures of cases, read back from their data URIs."""

import io
from base64 import b64decode

import numpy as np
from made_results import EVIL, ONE, THREE
from PIL import Image, ImageColor

from ultrarefiner_monai.colours import FALSE_ALARM, FIRST, HIT, LAST, MIDDLE, MISS, TRUTH, of_case
from ultrarefiner_monai.reports.cases import WIDTH, cases, tiles
from ultrarefiner_monai.reports.plots import Drawing
from ultrarefiner_monai.reports.result_files import read_results
from ultrarefiner_monai.reports.result_scores import score_results


def pixels(tile: Drawing) -> np.ndarray:
    kind, content = tile.uri.split(",")
    assert kind == "data:image/png;base64"
    return np.asarray(Image.open(io.BytesIO(b64decode(content))).convert("RGB"))


def has(tile: np.ndarray, colour: str) -> bool:
    return bool((tile == ImageColor.getrgb(colour)).all(axis=-1).any())


def mask(*box: int) -> np.ndarray:
    found = np.zeros((20, 40), dtype=bool)
    found[box[0] : box[1], box[2] : box[3]] = True
    return found


def test_tiles_show_each_mask_in_its_colour_and_the_errors():
    truth, coarse, refined = mask(5, 15, 10, 20), mask(0, 20, 0, 40), mask(5, 15, 15, 25)
    drawn = tiles(np.full((20, 40), 0.5), {"coarse": coarse, "refined": refined}, truth, of_case(["coarse", "refined"]))
    assert [tile.title for tile in drawn] == [
        *("image", "coarse", "refined", "truth", "all outlines", "errors of refined")
    ]
    image, *outlines, together, errors = [pixels(tile) for tile in drawn]
    assert all(has(together, colour) for colour in (FIRST, LAST, TRUTH))
    assert image.shape == (WIDTH // 2, WIDTH, 3) and len(np.unique(image)) == 1
    for outlined, colour in zip(outlines, (FIRST, LAST, TRUTH), strict=True):
        assert [has(outlined, other) for other in (FIRST, LAST, TRUTH)] == [
            other == colour for other in (FIRST, LAST, TRUTH)
        ]
    scale = WIDTH // 40
    where = {12: MISS, 17: HIT, 22: FALSE_ALARM}  # columns of truth alone, both, refined alone
    for column, colour in where.items():
        assert tuple(errors[10 * scale, column * scale + scale // 2]) == ImageColor.getrgb(colour)
    assert tuple(errors[10 * scale, 30 * scale]) not in map(ImageColor.getrgb, where.values())


def test_the_outline_lies_on_the_masks_edge():
    drawn = tiles(np.zeros((20, 40)), {"mask": mask(5, 15, 10, 20)}, mask(0, 0, 0, 0), of_case(["mask"]))
    rows, columns = np.nonzero((pixels(drawn[1]) == ImageColor.getrgb(FIRST)).all(axis=-1))
    scale = WIDTH / 40
    assert (abs(rows.min() - 5 * scale) <= 2) and (abs(rows.max() - 15 * scale) <= 2)
    assert (abs(columns.min() - 10 * scale) <= 2) and (abs(columns.max() - 20 * scale) <= 2)


def test_best_median_and_worst(made_results_folder):
    files = read_results(made_results_folder.folder)
    groups = dict(cases(score_results(files), files.root, "phase3", ["coarse", "refined"]))
    assert [title.rpartition(" ")[2] for title in groups] == ["highest", "median", "lowest"] * 2
    assert [case.row["id"] for case in groups["Refined Dice: highest"]] == ["a2", "a1"]
    assert [case.row["id"] for case in groups["Refined Dice: lowest"]] == ["d2", EVIL]
    assert groups["Change of Dice: highest"][0].row["id"] == "b1"
    assert [case.row["id"] for case in groups["Change of Dice: lowest"]] == ["d2", EVIL]
    assert all(len(case.tiles) == 6 for group in groups.values() for case in group)


def test_one_output_and_three(study_of):
    for system, drawn, titles in (
        (ONE, ["image", "mask", "truth", "all outlines", "errors of mask"], ["Mask Dice"]),
        (
            THREE,
            ["image", "unet", "step1", "step2", "truth", "all outlines", "errors of step2"],
            ["Step2 Dice", "Change of Dice"],
        ),
    ):
        files = read_results(study_of(system).folder)
        stage = system.stages[-1]
        groups = cases(score_results(files), files.root, stage.name, stage.outputs)
        assert list(dict.fromkeys(group.title.partition(":")[0] for group in groups)) == titles
        tiles = groups[0].cases[0].tiles
        assert [tile.title for tile in tiles] == drawn
        colours = [FIRST, MIDDLE, LAST] if system is THREE else [FIRST]
        assert all(has(pixels(tile), colour) for tile, colour in zip(tiles[1:], colours, strict=False))


def test_an_image_that_is_gone_leaves_its_numbers(make_results):
    cv = make_results("phase1")
    files = read_results(cv.folder)
    scores = score_results(files)
    (cv.root / "images/p3.png").unlink()  # b2, the best
    best = cases(scores, files.root, "phase1", ["coarse"])[0].cases[0]
    assert best.row["id"] == "b2" and best.tiles == []
