"""Masks of a DICOM file as a DICOM segmentation that refers to it, frame by frame."""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from typing import TYPE_CHECKING

import numpy as np

import ultrarefiner_monai
from ultrarefiner_monai.deploy.images.dicom import DicomFile, import_dicom
from ultrarefiner_monai.errors import DataError, one_line

if TYPE_CHECKING:
    from highdicom.seg import Segmentation, SegmentDescription
    from pydicom import Dataset

MAKER = "UltraRefiner"
SERIES_NUMBER = 100  # beyond the numbers that scanners give to the series of a study
FRAME_CONTENT = 0x00209111  # Frame Content Sequence
# Type 2 elements of the Patient and General Study modules (DICOM PS3.3, sections C.7.1.1 and C.7.2.1): repeated as the source
# has them, and empty where it has none, as in anonymised files.
REPEATED = (
    *("PatientName", "PatientID", "PatientBirthDate", "PatientSex"),
    *("StudyDate", "StudyTime", "StudyID", "AccessionNumber", "ReferringPhysicianName"),
)
TEMPORAL_POSITION = 0x00209128  # Temporal Position Index, from 1


def segmentation(source: DicomFile, masks: Sequence[np.ndarray], model: str, threshold: float) -> "Segmentation":
    """The segmentation of all frames of `source`, also of those without a lesion.

    Without a study or series of its own the file gets a segmentation in a new study, where there is no series that it could
    refer to (DICOM PS3.3, section C.12.4); `source` notes that.

    highdicom writes the first frame, without a frame of reference, which ultrasound seldom has. It writes no more than one
    of those, so the others are added here (DICOM PS3.3, sections A.51 and C.7.6.16).

    Args:
        source: the file that was segmented.
        masks: bool (H, W) of each of its frames.
        model: name of the model, for the header.
        threshold: probability from which a pixel is lesion, for the header.

    Raises:
        DataError: highdicom is not installed, or the file lacks what a segmentation has to repeat.
    """
    import_dicom("highdicom.seg")
    with referring(source):
        result, missing = _first_frame(source, masks[0], model, threshold)
        if missing:
            del result.ReferencedSeriesSequence
            source.note(f"no {' and no '.join(missing)}: the segmentation is in a study of its own")
        if source.count > 1:
            _add_frames(result, masks)
    return result


@contextmanager
def referring(source: DicomFile) -> Iterator[None]:
    """Tell in one line why a segmentation can not repeat what the header of a file says."""
    try:
        yield
    except DataError:
        raise
    except Exception as error:  # pydicom parses elements when they are used, and damaged ones fail in any way at all
        reason = one_line(error)
        raise DataError(f"{source.path}: no segmentation can refer to it ({reason}); write --format png") from None


def _first_frame(source: DicomFile, mask: np.ndarray, model: str, threshold: float) -> "tuple[Segmentation, list[str]]":
    """The segmentation of the first frame, and which identifiers of study and series were made up."""
    import highdicom as hd
    from pydicom.uid import ExplicitVRLittleEndian

    if lacking := [keyword for keyword in ("SOPClassUID", "SOPInstanceUID") if not source.header.get(keyword)]:
        raise DataError(f"{source.path}: no segmentation can refer to it (no {lacking[0]}); write --format png")
    single, missing = _single_frame(source.header)
    result = hd.seg.Segmentation(
        source_images=[single],
        pixel_array=mask.astype(np.uint8)[None],
        segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
        segment_descriptions=[_description()],
        series_instance_uid=hd.UID(),
        series_number=SERIES_NUMBER,
        sop_instance_uid=hd.UID(),
        instance_number=1,
        manufacturer=MAKER,
        manufacturer_model_name=model,
        software_versions=ultrarefiner_monai.__version__,
        device_serial_number="none",
        transfer_syntax_uid=ExplicitVRLittleEndian,
        omit_empty_frames=False,
        series_description=f"Lesion, p >= {threshold:g}, not for clinical use",
    )
    _complete(result, source.header)
    return result, missing


def _complete(result: "Segmentation", header: "Dataset") -> None:
    """Repeat what highdicom leaves out of the source's header, and refer to the source by its own kind of object."""
    for keyword in REPEATED:
        if keyword in header:
            result[keyword] = deepcopy(header[keyword])
    first = result.PerFrameFunctionalGroupsSequence[0]
    for reference in (
        result.SourceImageSequence[0],
        result.ReferencedSeriesSequence[0].ReferencedInstanceSequence[0],
        first.DerivationImageSequence[0].SourceImageSequence[0],
    ):
        reference.ReferencedSOPClassUID = header.SOPClassUID


def _single_frame(header: "Dataset") -> "tuple[Dataset, list[str]]":
    """The header of a multi-frame image as that of a single one; highdicom treats other ones as enhanced CT or MR.

    Also which identifiers of study and series it lacks; they are made up then, both of them.
    """
    from pydicom.uid import UltrasoundImageStorage, generate_uid

    single = deepcopy(header)
    single.SOPClassUID = UltrasoundImageStorage
    for keyword in ("NumberOfFrames", "FrameOfReferenceUID"):
        if keyword in single:
            del single[keyword]
    for keyword in REPEATED:
        setattr(single, keyword, "")  # highdicom refuses values that may be passed on as they are
    places = ("StudyInstanceUID", "SeriesInstanceUID")
    missing = [keyword for keyword in places if not header.get(keyword)]
    for keyword in places if missing else ():
        setattr(single, keyword, generate_uid(entropy_srcs=[header.SOPInstanceUID, keyword]))
    return single, missing


def _description() -> "SegmentDescription":
    """Lesion of the breast, found by a program (codes of SNOMED CT and DICOM)."""
    import highdicom as hd
    from pydicom.sr.codedict import codes

    algorithm = hd.AlgorithmIdentificationSequence(
        name=MAKER, family=codes.cid7162.ArtificialIntelligence, version=ultrarefiner_monai.__version__
    )
    return hd.seg.SegmentDescription(
        segment_number=1,
        segment_label="Lesion",
        segmented_property_category=codes.SCT.MorphologicallyAbnormalStructure,
        segmented_property_type=codes.SCT.Lesion,
        algorithm_type=hd.seg.SegmentAlgorithmTypeValues.AUTOMATIC,
        algorithm_identification=algorithm,
        anatomic_regions=[codes.SCT.Breast],
    )


def _add_frames(result: "Dataset", masks: Sequence[np.ndarray]) -> None:
    """Make one frame a mask of a segmentation with one frame; time becomes a dimension."""
    from pydicom.pixels import pack_bits

    first = result.PerFrameFunctionalGroupsSequence[0]
    groups = [deepcopy(first) for _ in masks]
    for number, group in enumerate(groups, start=1):
        group.DerivationImageSequence[0].SourceImageSequence[0].ReferencedFrameNumber = number
        group.FrameContentSequence[0].TemporalPositionIndex = number
        group.FrameContentSequence[0].DimensionIndexValues = [1, number]
    result.PerFrameFunctionalGroupsSequence = groups
    dimension = deepcopy(result.DimensionIndexSequence[0])
    dimension.DimensionIndexPointer, dimension.FunctionalGroupPointer = TEMPORAL_POSITION, FRAME_CONTENT
    dimension.DimensionDescriptionLabel = "Temporal Position Index"
    result.DimensionIndexSequence.append(dimension)
    result.NumberOfFrames = len(masks)
    result.PixelData = pack_bits(np.concatenate([mask.ravel() for mask in masks]).astype(np.uint8))
