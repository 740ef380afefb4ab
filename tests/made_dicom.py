"""Ultrasound in DICOM files, made for a test."""

from io import BytesIO

from pydicom import Dataset, dcmread, dcmwrite
from pydicom.dataset import FileMetaDataset
from pydicom.encaps import encapsulate
from pydicom.uid import (
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    UltrasoundImageStorage,
    UltrasoundMultiFrameImageStorage,
    generate_uid,
)

PATIENT = {"PatientName": "Made^Up", "PatientID": "42", "PatientBirthDate": "", "PatientSex": "F"}
STUDY = {"StudyDate": "20240102", "StudyTime": "", "StudyID": "", "AccessionNumber": "", "ReferringPhysicianName": ""}


def header(sop_class=UltrasoundImageStorage):
    """What every ultrasound file says, but for its pixels."""
    made = Dataset()
    made.file_meta = FileMetaDataset()
    made.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = sop_class
    made.Modality, made.SeriesNumber, made.InstanceNumber = "US", 1, 1
    for keyword in ("SOPInstanceUID", "StudyInstanceUID", "SeriesInstanceUID"):
        setattr(made, keyword, generate_uid())
    for keyword, value in (PATIENT | STUDY).items():
        setattr(made, keyword, value)
    return made


def region(delta_x, delta_y, units=3, spatial_format=1, data_type=1):
    """A calibrated region; the deltas are in `units` a pixel, 3 being cm; data of type 1 are tissue, 2 colour flow."""
    made = Dataset()
    made.RegionDataType = data_type
    made.RegionSpatialFormat = spatial_format
    made.PhysicalUnitsXDirection = made.PhysicalUnitsYDirection = units
    made.PhysicalDeltaX, made.PhysicalDeltaY = delta_x, delta_y
    return made


def write_dicom(path, pixels, photometric="MONOCHROME2", bits=None, syntax=None, streams=None, **elements):
    """Write pixels (H, W) or (H, W, 3), or several frames of these where `photometric` and the axes say so.

    YBR pixels have to be given as YBR. `syntax` is the transfer syntax: pydicom encodes the pixels, unless `streams` are
    these pixels' frames, encoded already. Returns the path.
    """
    syntax = syntax or ExplicitVRLittleEndian
    colours = photometric not in ("MONOCHROME1", "MONOCHROME2", "PALETTE COLOR")
    frames = len(pixels) if pixels.ndim == (4 if colours else 3) else 1
    made = header(UltrasoundMultiFrameImageStorage if frames > 1 else UltrasoundImageStorage)
    made.Rows, made.Columns = pixels.shape[-3:-1] if colours else pixels.shape[-2:]
    made.SamplesPerPixel, made.PhotometricInterpretation = 3 if colours else 1, photometric
    made.BitsAllocated = pixels.dtype.itemsize * 8
    made.BitsStored = bits or made.BitsAllocated
    made.HighBit, made.PixelRepresentation = made.BitsStored - 1, int(pixels.dtype.kind == "i")
    if colours:
        made.PlanarConfiguration = 0
    if frames > 1:
        made.NumberOfFrames, made.FrameTime, made.FrameIncrementPointer = frames, 40, 0x00181063
    stored = pixels if syntax.is_little_endian else pixels.astype(pixels.dtype.newbyteorder(">"))
    made.PixelData = encapsulate(streams) if streams else stored.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OB" if streams or pixels.dtype.itemsize == 1 else "OW"
    for keyword, value in elements.items():
        setattr(made, keyword, value)
    made.file_meta.MediaStorageSOPInstanceUID = made.SOPInstanceUID
    if syntax.is_compressed and not streams:
        made.compress(syntax)
    made.file_meta.TransferSyntaxUID = syntax
    made.save_as(path, enforce_file_format=True)
    return path


def without_preamble(path, implicit=False):
    """Rewrite a file as its bare data set, as old devices and some exports write it. Returns the path."""
    made = dcmread(path)
    made.remove_private_tags()
    bare = Dataset(made)
    syntax = ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian
    with BytesIO() as buffer:
        dcmwrite(buffer, bare, implicit_vr=syntax.is_implicit_VR, little_endian=True, enforce_file_format=False)
        content = buffer.getvalue()
    assert content[128:132] != b"DICM"
    path.write_bytes(content)
    return path


def anonymised(path):
    """Remove every element about the patient and the study's circumstances. Returns the path."""
    made = dcmread(path)
    for keyword in PATIENT | STUDY:
        del made[keyword]
    made.save_as(path)
    return path
