"""A DICOMweb server with a study of two series of ultrasound, a report and a CT."""

from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

from ultrarefiner_monai.data.phantom.phantom import generate_phantom


@pytest.fixture
def pacs(tmp_path, monkeypatch):
    """The running server, with its `url`, `study`, `series` and `images` (identifiers of ultrasound) and `sources` (files)."""
    pytest.importorskip("dicomweb_client", reason="DICOM is an optional extra")
    from dicomweb_server import running
    from made_dicom import header, write_dicom

    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))  # not that of the home folder
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("ULTRAREFINER_DICOMWEB_TOKEN", raising=False)
    folder = tmp_path / "pacs"
    folder.mkdir()
    generate_phantom(tmp_path / "phantom", count=3, seed=3)
    pictures = [np.asarray(Image.open(path)) for path in sorted((tmp_path / "phantom/images").iterdir())]
    first = header()
    study, series = {"StudyInstanceUID": first.StudyInstanceUID}, ("1.2.3.1", "1.2.3.2")
    with running() as server:
        for number, place in enumerate((series[0], series[0], series[1])):
            grey = pictures[number]
            pixels = np.stack([grey, grey[::-1]]) if number == 1 else grey
            write_dicom(folder / f"us{number}.dcm", pixels, SeriesInstanceUID=place, **study)
        ct = {"Modality": "CT", "SOPClassUID": "1.2.840.10008.5.1.4.1.1.2", "SeriesInstanceUID": "1.2.3.3"}
        write_dicom(folder / "ct.dcm", np.zeros((8, 8), np.uint16), **ct, **study)
        report = header("1.2.840.10008.5.1.4.1.1.88.11")
        report.StudyInstanceUID, report.SeriesInstanceUID, report.Modality = first.StudyInstanceUID, "1.2.3.4", "SR"
        report.file_meta.MediaStorageSOPInstanceUID = report.SOPInstanceUID
        report.save_as(folder / "sr.dcm", enforce_file_format=True)
        sources = {server.add(path).SOPInstanceUID: path for path in sorted(folder.iterdir())}
        images = [uid for uid, path in sources.items() if path.name.startswith("us")]
        yield SimpleNamespace(
            server=server,
            url=server.url,
            study=first.StudyInstanceUID,
            series=series,
            images=images,
            sources=sources,
        )
