"""What the header of a DICOM file says about its image, also where the file lacks parts of one."""

import zlib
from pathlib import Path
from typing import TYPE_CHECKING

from ultrarefiner_monai.data.decoders import BYTES_PER_PIXEL, max_pixels
from ultrarefiner_monai.deploy.images.image_file import Spacing
from ultrarefiner_monai.errors import DataError
from ultrarefiner_monai.texts import printable

if TYPE_CHECKING:
    from pydicom import Dataset

# File meta information, and the transfer syntax that deflates all behind it (DICOM PS3.10, section 7.1; PS3.5, section A.5).
META_GROUP, TRANSFER_SYNTAX, DEFLATED = 0x0002, 0x00020010, b"1.2.840.10008.1.2.1.99"
ULTRASOUND = "US"  # Modality, DICOM PS3.3, section C.7.3.1.1.1
# SOP classes whose objects are ultrasound (DICOM PS3.4, section B.5, and retired ones): image, multi-frame, volume.
SOP_CLASSES = tuple(f"1.2.840.10008.5.1.4.1.1.{end}" for end in ("3", "3.1", "6", "6.1", "6.2"))
# Objects that hold no image to predict, by the part of their SOP class behind the common root (DICOM PS3.4, section B.5): curves
# and waveforms, presentation states, raw data and what is made of images (registrations, segmentations), reports, documents.
STORAGE, NO_IMAGES = "1.2.840.10008.5.1.4.1.1.", ("9", "11", "66", "88", "104")
BREAST = "BREAST"  # Body Part Examined, DICOM PS3.16, annex L
# DICOM PS3.3, section C.8.5.5, Ultrasound Region Calibration.
SPATIAL_2D = 1  # Region Spatial Format: a plane of tissue, as opposed to a time axis, a spectrum or a graphic
COLOUR_FLOW = 2  # Region Data Type
CENTIMETRES = 3  # Physical Units X and Y Direction
MM_PER_CM = 10
LONGEST_SHOWN = 128  # letters of a value: the longest names of transfer syntaxes have 83


def read_header(path: Path) -> "tuple[Dataset, list[str]]":
    """All elements but the pixels, and a note where the file lacks its preamble or transfer syntax.

    What such a file leaves open is told from its content. To be used inside of `decoders.decoding`, as is `read_whole`.
    """
    from pydicom import dcmread
    from pydicom.uid import ExplicitVRBigEndian, ExplicitVRLittleEndian, ImplicitVRLittleEndian

    _check_deflated(path)
    header = dcmread(path, stop_before_pixels=True, force=True)
    meta = header.file_meta
    if not header.get("Rows") and not header.get("SOPClassUID"):
        raise ValueError("no DICOM")
    is_complete = header.preamble is not None and "TransferSyntaxUID" in meta
    if "TransferSyntaxUID" not in meta:
        implicit, little = header.original_encoding
        plain = ExplicitVRLittleEndian if little else ExplicitVRBigEndian
        meta.TransferSyntaxUID = ImplicitVRLittleEndian if implicit else plain
    for keyword in ("SOPClassUID", "SOPInstanceUID"):
        if not header.get(keyword) and (stated := meta.get(f"MediaStorage{keyword}")):
            setattr(header, keyword, stated)
    notes = [] if is_complete else [f"no complete DICOM file header: read as {printed(meta.TransferSyntaxUID.name)}"]
    return header, notes


def _check_deflated(path: Path) -> None:
    """Refuse a file whose deflated data set is larger than any image may be; pydicom would inflate all of it."""
    from pydicom.filereader import data_element_generator, read_preamble

    with path.open("rb") as file:
        if read_preamble(file, force=True) is None:
            return
        meta = data_element_generator(file, False, True, stop_when=lambda tag, *_: tag >> 16 != META_GROUP)
        if DEFLATED not in {(element.value or b"").strip(b"\0 ") for element in meta if element.tag == TRANSFER_SYNTAX}:
            return
        limit = BYTES_PER_PIXEL * max_pixels()
        if zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(), limit + 1)[limit:]:
            raise DataError(f"inflates to more than {limit} bytes; save it uncompressed")


def read_whole(path: Path, header: "Dataset") -> "Dataset":
    """The file with its pixels, in the transfer syntax that `read_header` has found."""
    from pydicom import dcmread

    whole = dcmread(path, force=True)
    if whole["PixelData"].is_undefined_length and not header.file_meta.TransferSyntaxUID.is_encapsulated:
        raise ValueError("its pixels are compressed, and it does not say how")
    whole.file_meta = header.file_meta
    return whole


def holds_image(sop_class: str) -> bool:
    """Whether objects of a SOP class may hold an image to predict, as opposed to a report, a segmentation and the like."""
    return not sop_class.startswith(STORAGE) or sop_class.removeprefix(STORAGE).split(".")[0] not in NO_IMAGES


def check_modality(header: "Dataset", any_modality: bool) -> None:
    """Refuse what is no ultrasound, unless it is asked for.

    Raises:
        DataError: the modality is another one, or is missing and the object is none of ultrasound.
    """
    modality = header.get("Modality")
    if any_modality or modality == ULTRASOUND or (not modality and header.get("SOPClassUID") in SOP_CLASSES):
        return
    found = f"Modality is {printed(modality)}" if modality else "Modality is missing"
    raise DataError(f"{found}, not {ULTRASOUND} (ultrasound); predict it all the same with --any_modality true")


def header_notes(header: "Dataset") -> list[str]:
    """What a reader of the results should know: modality, body part, colour flow, and several calibrated regions."""
    notes = []
    if (modality := header.get("Modality")) != ULTRASOUND:
        notes.append(f"Modality is {printed(modality or 'missing')}, not {ULTRASOUND}")
    if (part := header.get("BodyPartExamined")) and BREAST not in str(part).upper():
        notes.append(f"BodyPartExamined is {printed(part)}, not {BREAST}")
    regions = header.get("SequenceOfUltrasoundRegions") or []
    if header.get("UltrasoundColorDataPresent") == 1 or any(r.get("RegionDataType") == COLOUR_FLOW for r in regions):
        notes.append("the header tells of colour flow (Doppler), whose pixels are read as luma")
    spacings = region_spacings(header)
    if len(spacings) > 1:
        scales = sorted(set(spacings))
        used = "their size of a pixel is used" if len(scales) == 1 else "none is used, and values in mm are undefined"
        sizes = ", ".join(f"{down:g} x {along:g}" for down, along in scales)
        notes.append(f"{len(spacings)} calibrated regions, pixels of {sizes} mm: {used}")
    return notes


def printed(value: object) -> str:
    """A value of a file as part of a line: a damaged element may hold whatever follows it."""
    return printable(str(value)[:LONGEST_SHOWN])


def region_spacings(header: "Dataset") -> list[Spacing]:
    """Size of a pixel in each calibrated region of tissue; a region without its numbers is none."""
    regions = (
        (region.get("PhysicalDeltaY"), region.get("PhysicalDeltaX"))
        for region in header.get("SequenceOfUltrasoundRegions") or []
        if region.get("RegionSpatialFormat") == SPATIAL_2D
        and (region.get("PhysicalUnitsXDirection"), region.get("PhysicalUnitsYDirection")) == (CENTIMETRES, CENTIMETRES)
    )
    return [(abs(down) * MM_PER_CM, abs(along) * MM_PER_CM) for down, along in regions if down and along]


def pixel_spacing(header: "Dataset") -> Spacing | None:
    """Size of a pixel: of the calibrated regions where all of them agree, else PixelSpacing; None where neither tells."""
    regions = set(region_spacings(header))
    if regions:
        return regions.pop() if len(regions) == 1 else None
    spacing = header.get("PixelSpacing")
    if not spacing or isinstance(spacing, float) or len(spacing) != 2 or min(spacing) <= 0:
        return None
    return float(spacing[0]), float(spacing[1])
