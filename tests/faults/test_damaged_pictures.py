"""Pictures damaged at random are read or refused in one line, quickly and in little memory, by everything that reads pictures."""

import numpy as np
import pytest
from fuzzing import fuzz, mutated_bytes
from picture_kinds import GREY, binary, dicoms, interlaced, niftis, opened, pictures, sealed

from ultrarefiner_monai.data.images import read_grey, read_mask
from ultrarefiner_monai.data.integrity.listed_files import read_listed
from ultrarefiner_monai.data.predictions.maps import file_fault, read_map, write_map
from ultrarefiner_monai.data.releases.image_facts import measure
from ultrarefiner_monai.data.releases.records import Source
from ultrarefiner_monai.deploy.images import open_image_file
from ultrarefiner_monai.deploy.predict.outputs import Outputs, write_nifti
from ultrarefiner_monai.errors import DataError


def predicted(path):
    """Reads as `predict` does, and writes a mask in the geometry of the file."""
    source = open_image_file(path)
    for grey in source.frames():
        assert grey.dtype == np.float32 and grey.ndim == 2 and grey.size and 0 <= grey.min() <= grey.max() <= 1
    write_nifti(path.with_name("mask_of_it.nii.gz"), np.ones(grey.shape, np.uint8), source)


def segmented(path):
    """The same with a DICOM segmentation."""
    source = open_image_file(path)
    masks = [grey > 0.5 for grey in source.frames()]
    Outputs(path.parent, "dicom-seg").complete(source, "segmentation", masks, [], "model")


def measured(path):
    """As a manifest is built; reasons of a file that cannot be read come as text."""
    _, bad = measure([Source(id="a", image=path.name, masks=(path.name,), label="benign")], path.parent, workers=1)
    for reason in bad.values():
        raise DataError(reason)


def verified(path):
    """As a manifest is verified."""
    reading = read_listed(path.parent, path.name, None)
    if reading.problem:
        raise DataError(reading.problem.message)


def mapped(path):
    """As probability maps are paired and read."""
    file_fault(path, (32, 24), (32, 24))
    read_map(path)


def rasters(folder):
    """PNG, JPEG, BMP and TIFF."""
    return pictures() | binary() | {"interlaced.png": interlaced()}


def maps(folder):
    """One probability map."""
    write_map(folder / "map.nii.gz", GREY / np.float32(255))
    return {"map.nii.gz": (folder / "map.nii.gz").read_bytes()}


READERS = {
    "read image": (read_grey, rasters),
    "read mask": (read_mask, rasters),
    "predict, pictures": (predicted, rasters),
    "predict, DICOM": (segmented, dicoms),
    "predict, NIfTI": (predicted, lambda folder: niftis()),
    "manifests build": (measured, rasters),
    "manifests verify": (verified, rasters),
    "probability map": (mapped, maps),
}


@pytest.mark.fault(29)
@pytest.mark.parametrize("name", READERS)
def test_damaged_files_are_read_or_refused_in_one_line(name, fuzz_cases, tmp_path, capfd):
    read, make = READERS[name]
    if "DICOM" in name:
        pytest.importorskip("highdicom", reason="DICOM is an optional extra")
    made = make(tmp_path)
    for path, content in made.items():  # what a decoder needs once is no cost of a damaged file
        (tmp_path / path).write_bytes(content)
        read(tmp_path / path)

    def damaged(generator):
        path = generator.choice(sorted(made))
        if generator.random() < 0.5:
            return path, mutated_bytes(made[path], generator)
        return path, sealed(path, mutated_bytes(opened(path, made[path]), generator))

    def parse(case):
        (tmp_path / case[0]).write_bytes(case[1])
        read(tmp_path / case[0])

    outcome = fuzz(parse, damaged, fuzz_cases, (DataError,))
    told = capfd.readouterr().err.splitlines()
    print(f"{name}: {outcome}")
    assert not outcome.faults
    assert outcome.refused > fuzz_cases // 10 and outcome.read > fuzz_cases // 50
    assert not [line for line in told if "Traceback" in line or "Warning:" in line or "warn(" in line]
