"""A segmentation read back by pydicom and by highdicom: pixels, references and codes."""

import io

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.deploy.images.dicom import DicomFile
from ultrarefiner_monai.errors import DataError

hd = pytest.importorskip("highdicom", reason="DICOM is an optional extra")
import pydicom  # noqa: E402
from made_dicom import PATIENT, STUDY, anonymised, without_preamble, write_dicom  # noqa: E402
from pydicom.uid import (  # noqa: E402
    DeflatedExplicitVRLittleEndian,
    JPEGBaseline8Bit,
    JPEGLSLossless,
    RLELossless,
    SegmentationStorage,
)

from ultrarefiner_monai.deploy.predict.dicom_seg import segmentation  # noqa: E402

SHAPE = (7, 9)  # 63 pixels, so that frames do not end with a byte
SYNTAXES = [None, DeflatedExplicitVRLittleEndian, RLELossless, JPEGLSLossless, JPEGBaseline8Bit]  # of the source
EVERY_SOURCE = [(1, None), *((4, syntax) for syntax in SYNTAXES)]


def jpeg(pixels):
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "JPEG", subsampling="4:2:2")
    return buffer.getvalue()


def make(folder, count, syntax=None):
    """A file with frames, its masks (the second one blank), and the segmentation as written and read again."""
    rng = np.random.default_rng(1)
    pixels = rng.integers(0, 255, (count, *SHAPE, 3), dtype=np.uint8)
    stored = {"photometric": "RGB", "syntax": syntax}
    if syntax == JPEGBaseline8Bit:
        stored |= {"photometric": "YBR_FULL_422", "streams": [jpeg(frame) for frame in pixels]}
    source = DicomFile(write_dicom(folder / "in.dcm", pixels if count > 1 else pixels[0], **stored))
    masks = rng.random((count, *SHAPE)) > 0.5
    masks[1:2] = False
    segmentation(source, list(masks), "phase3", 0.5).save_as(folder / "seg.dcm")
    return source, masks, folder / "seg.dcm"


@pytest.mark.parametrize(("count", "syntax"), EVERY_SOURCE)
def test_pydicom_reads_the_masks_and_which_frame_each_belongs_to(count, syntax, tmp_path):
    source, masks, path = make(tmp_path, count, syntax)
    seg = pydicom.dcmread(path)
    np.testing.assert_array_equal(seg.pixel_array.reshape(masks.shape), masks)
    assert seg.SOPClassUID == SegmentationStorage and seg.NumberOfFrames == count
    assert (seg.PatientID, seg.StudyInstanceUID) == ("42", source.header.StudyInstanceUID)
    assert seg.SeriesInstanceUID != source.header.SeriesInstanceUID
    references = [
        group.DerivationImageSequence[0].SourceImageSequence[0] for group in seg.PerFrameFunctionalGroupsSequence
    ]
    assert {(one.ReferencedSOPClassUID, one.ReferencedSOPInstanceUID) for one in references} == {
        (source.header.SOPClassUID, source.header.SOPInstanceUID)
    }
    assert [one.get("ReferencedFrameNumber") for one in references] == ([None] if count == 1 else [1, 2, 3, 4])
    assert source.header.get("NumberOfFrames", 1) == count  # the source's header is left as it was


@pytest.mark.parametrize(("count", "syntax"), EVERY_SOURCE)
def test_highdicom_finds_the_masks_by_their_source(count, syntax, tmp_path):
    source, masks, path = make(tmp_path, count, syntax)
    seg = hd.seg.segread(path)
    uid = source.header.SOPInstanceUID
    if count == 1:
        found = seg.get_pixels_by_source_instance([uid])
    else:
        found = seg.get_pixels_by_source_frame(uid, list(range(1, count + 1)))
    np.testing.assert_array_equal(found[..., 0], masks)
    (segment,) = (seg.get_segment_description(number) for number in seg.segment_numbers)
    assert segment.segmented_property_type.meaning == "Lesion"
    assert segment.anatomic_regions[0].meaning == "Breast"
    assert segment.algorithm_type.value == "AUTOMATIC"


def seg_of(path, count=1):
    """The segmentation of a file, written and read again, its source and its masks."""
    source = DicomFile(path)
    masks = np.random.default_rng(2).random((count, *SHAPE)) > 0.5
    segmentation(source, list(masks), "phase3", 0.5).save_as(path.with_suffix(".seg"))
    return pydicom.dcmread(path.with_suffix(".seg")), source, masks


@pytest.mark.parametrize("count", [1, 3])
def test_an_anonymised_file_gets_a_segmentation_of_nobody(count, tmp_path):
    pixels = np.zeros((count, *SHAPE), np.uint8)
    path = anonymised(write_dicom(tmp_path / "in.dcm", pixels if count > 1 else pixels[0]))
    seg, source, masks = seg_of(path, count)
    assert all(seg[keyword].is_empty for keyword in PATIENT | STUDY)  # type 2: there, and empty
    assert seg.StudyInstanceUID == source.header.StudyInstanceUID
    np.testing.assert_array_equal(seg.pixel_array.reshape(masks.shape), masks)
    assert "PatientID" not in source.header


def test_what_a_file_says_of_its_patient_is_repeated_word_for_word(tmp_path):
    """Values that the standard does not know are the source's affair, and no reason to refuse the file."""
    path = write_dicom(tmp_path / "in.dcm", np.zeros(SHAPE, np.uint8), PatientName="anon", PatientSex="X", StudyID="7")
    seg, _, _ = seg_of(path)
    assert (seg.PatientName, seg.PatientSex, seg.StudyID, seg.PatientID) == ("anon", "X", "7", "42")


@pytest.mark.parametrize("implicit", [False, True])
def test_a_bare_data_set_gets_a_segmentation(implicit, tmp_path):
    path = without_preamble(write_dicom(tmp_path / "in.dcm", np.zeros(SHAPE, np.uint8)), implicit)
    seg, source, masks = seg_of(path)
    np.testing.assert_array_equal(seg.pixel_array, masks[0])
    assert hd.seg.segread(path.with_suffix(".seg")).get_source_image_uids()[0][2] == source.header.SOPInstanceUID


@pytest.mark.parametrize("missing", ["StudyInstanceUID", "SeriesInstanceUID"])
def test_a_file_of_no_study_gets_a_segmentation_in_a_study_of_its_own(missing, tmp_path):
    path = write_dicom(tmp_path / "in.dcm", np.zeros(SHAPE, np.uint8))
    made = pydicom.dcmread(path)
    del made[missing]
    made.save_as(path)
    seg, source, masks = seg_of(path)
    assert seg.StudyInstanceUID and "ReferencedSeriesSequence" not in seg and missing not in source.header
    reference = seg.PerFrameFunctionalGroupsSequence[0].DerivationImageSequence[0].SourceImageSequence[0]
    assert reference.ReferencedSOPInstanceUID == source.header.SOPInstanceUID
    assert source.notes == [f"no {missing}: the segmentation is in a study of its own"]
    np.testing.assert_array_equal(hd.seg.segread(path.with_suffix(".seg")).pixel_array, masks[0])


def test_a_file_without_its_own_identifier_is_refused_in_one_line(tmp_path):
    source, masks, _ = make(tmp_path, 1)
    del source.header.SOPInstanceUID
    with pytest.raises(DataError, match=r"in\.dcm: no segmentation can refer to it \(.*SOPInstanceUID.*format png$"):
        segmentation(source, list(masks), "phase3", 0.5)
