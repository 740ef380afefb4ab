"""A DICOMweb server (DICOM PS3.18): what it lists (QIDO-RS), gives (WADO-RS) and is given (STOW-RS); none of it is believed."""

import re
from collections.abc import Mapping
from io import BytesIO
from ipaddress import ip_address
from pathlib import Path
from typing import Any, NamedTuple
from urllib.parse import urlsplit

from ultrarefiner_monai.data.decoders import decoding
from ultrarefiner_monai.deploy.dicomweb.session import CONNECT_S, MAX_INSTANCE, SILENCE_S, open_session
from ultrarefiner_monai.deploy.images.dicom import import_dicom
from ultrarefiner_monai.deploy.images.dicom_header import printed
from ultrarefiner_monai.errors import DataError

UID, LONGEST = re.compile(r"[0-9]+(\.[0-9]+)*"), 64  # DICOM PS3.5, section 9.1; leading zeros occur
START, HOST = ("https://", "http://"), re.compile(r"[a-z0-9]([a-z0-9._-]*[a-z0-9])?")
MAX_INSTANCES = 1000  # of a study or series that is asked for
PAGE = 500  # instances of a listing that are asked for at once
ANSWER, AGAIN = "an answer of DICOMweb", "check the URL, and the log of the server"
# What a listing is asked to tell of each instance, with the tag that it tells it by.
TAGS = {
    "StudyInstanceUID": "0020000D",
    "SeriesInstanceUID": "0020000E",
    "SOPInstanceUID": "00080018",
    "SOPClassUID": "00080016",
    "Modality": "00080060",
}
PLACE = tuple(TAGS)[:3]  # the identifiers that say where an instance is


class Instance(NamedTuple):
    """An object of a server, as it lists it; texts that it does not tell are empty, but for the identifiers."""

    study: str
    series: str
    uid: str
    sop_class: str
    modality: str


class Server:
    """A DICOMweb server, which is asked through `dicomweb_client`.

    Args:
        url: the root of its services, such as "https://pacs.example.org/dicom-web".
        plain_http: allow `http`, which anybody on the way can read and change, to other machines than this one.

    Raises:
        DataError: no such URL, one with a user, or `dicomweb_client` is not installed.
    """

    def __init__(self, url: str, plain_http: bool = False) -> None:
        self.url = url.rstrip("/")
        _check_url(self.url, plain_http)
        client = import_dicom("dicomweb_client.web")
        waits = (CONNECT_S, SILENCE_S)
        # In one piece, since some servers take no chunks; without retries, which would be of mistakes, too.
        self._client = client.DICOMwebClient(self.url, open_session(), chunk_size=MAX_INSTANCE, timeout=waits)
        self._client.set_http_retry_params(retry=False)

    def instances(self, study: str, series: str | None = None) -> list[Instance]:
        """What the server lists of a study, or of one series of it.

        Raises:
            NoAnswerError: it does not answer.
            DataError: another answer than a listing of these instances, or one of more than `MAX_INSTANCES`.
        """
        found: dict[str, Instance] = {}
        subject = f"{self.url}: study {study}" + (f", series {series}" if series else "")
        with decoding(subject, ANSWER, AGAIN):
            while True:
                page = self._client.search_for_instances(
                    study, series, fields=list(TAGS), limit=PAGE, offset=len(found)
                )
                listed = {one.uid: one for one in (_instance(item, study, series) for item in page)}
                if listed.keys() <= found.keys():  # also where a server knows no pages
                    return list(found.values())
                found |= listed
                if len(found) > MAX_INSTANCES:
                    raise DataError(f"more than {MAX_INSTANCES} instances; name one series, as STUDY/SERIES")

    def fetch(self, instance: Instance) -> bytes:
        """An instance as a DICOM file, in the transfer syntax in which the server has it.

        Raises:
            NoAnswerError: the server does not answer.
            DataError: another answer than this instance.
        """
        with decoding(f"{self.url}: instance {instance.uid}", ANSWER, AGAIN), BytesIO() as file:
            dataset = self._client.retrieve_instance(*instance[: len(PLACE)])
            for keyword, expected in zip(PLACE, instance, strict=False):
                if (found := str(dataset.get(keyword))) != expected:
                    raise DataError(f"{keyword}: expected {expected}, found {found}; {AGAIN}")
            dataset.save_as(file)
            return file.getvalue()

    def store(self, path: Path, study: str) -> None:
        """Store a DICOM file in a study.

        Raises:
            NoAnswerError: the server does not answer.
            DataError: it refuses, or does not say that it has the file now.
        """
        from pydicom import dcmread

        with decoding(f"{self.url}: storing {path}", ANSWER, AGAIN):
            dataset = dcmread(path)
            answer = self._client.store_instances([dataset], study)
            if reasons := [f"{item.get('FailureReason', 0):#06x}" for item in answer.get("FailedSOPSequence") or ()]:
                raise DataError(f"refused, with reason {reasons[0]} (DICOM PS3.3, section C.14.1.1); {AGAIN}")
            stored = {str(item.get("ReferencedSOPInstanceUID")) for item in answer.get("ReferencedSOPSequence") or ()}
            if dataset.SOPInstanceUID not in stored:
                raise DataError("the server does not say that it has it; look there before you send it again")


def is_uid(text: str) -> bool:
    """Whether a text is a DICOM identifier: digits and dots, which are a name of a file as they are."""
    return len(text) <= LONGEST and UID.fullmatch(text) is not None


def _check_url(url: str, plain_http: bool) -> None:
    """Refuse a URL that is none, that shows a password, or whose traffic others could read."""
    try:
        parts = urlsplit(url)
        host, _ = parts.hostname or "", parts.port
    except ValueError:
        raise DataError("--dicomweb: expected https://HOST[:PORT]/PATH; correct it") from None
    if parts.username is not None or parts.password is not None:
        raise DataError("--dicomweb: a user or password in the URL is seen by others; take ~/.netrc, or a token")
    if not url.startswith(START) or not HOST.fullmatch(host) or parts.query or parts.fragment:
        raise DataError(f"--dicomweb {url}: expected https://HOST[:PORT]/PATH; correct it")
    if parts.scheme == "http" and not (plain_http or _is_loopback(host)):
        raise DataError(
            f"--dicomweb {url}: http can be read on the way; take https, or --plain_http true where you must"
        )


def _is_loopback(host: str) -> bool:
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _instance(item: Mapping[str, Any], study: str, series: str | None) -> Instance:
    """One entry of a listing (DICOM JSON, PS3.18, annex F), checked against what was asked for."""
    told = {keyword: str((item.get(tag, {}).get("Value") or [""])[0]) for keyword, tag in TAGS.items()}
    asked = {"StudyInstanceUID": study, "SeriesInstanceUID": series}
    for keyword, expected in asked.items():
        if expected and (told[keyword] or expected) != expected:
            raise DataError(f"{keyword}: expected {expected}, found {told[keyword]}; {AGAIN}")
        told[keyword] = told[keyword] or expected or ""
    if bad := [keyword for keyword in PLACE if not is_uid(told[keyword])]:
        raise DataError(f"{bad[0]}: expected digits and dots, found {told[bad[0]]!r}; {AGAIN}")
    return Instance(*map(printed, told.values()))
