"""MONAI Label's web server with the gate before it and its forms checked before they are used."""

import inspect
import json
import logging
from collections.abc import Callable, Mapping
from functools import wraps
from typing import Any

import monailabel.endpoints.datastore
import monailabel.endpoints.infer
from fastapi import FastAPI
from fastapi.middleware import Middleware
from fastapi.middleware.cors import CORSMiddleware
from studies import told

from ultrarefiner_monai.data.releases.readers import IMAGE_SUFFIXES
from ultrarefiner_monai.deploy.monailabel.gate import TOKEN, Gate
from ultrarefiner_monai.deploy.monailabel.labels import LABEL_SUFFIXES, NIFTIS, suffix_of
from ultrarefiner_monai.deploy.monailabel.request import SEGMENT, UPLOAD, checked, is_plain, is_text, sent
from ultrarefiner_monai.errors import DataError

logger = logging.getLogger(__name__)

SUFFIXES = {"file": (*IMAGE_SUFFIXES, *NIFTIS), "label": LABEL_SUFFIXES}  # of files by their field in a form


def guard(server: FastAPI, token: str | None, origins: list[str], limit: int) -> None:
    """Put the gate before a server that has not answered anything yet, in place of MONAI Label's leave for all origins."""
    server.user_middleware[:] = [
        Middleware(CORSMiddleware, allow_origins=origins, allow_methods=["*"], allow_headers=["*"]),
        Middleware(Gate, token=token, origins=origins, limit=limit),
    ]
    server.middleware_stack = server.build_middleware_stack()
    if token is None:
        logger.warning("no password: only programs of this machine are served, whatever --host is (%s)", TOKEN)


def check_forms(check: Callable[[dict[str, Any]], Any]) -> None:
    """Let forms be checked before MONAI Label reads them; `check` is for the request of a mask.

    There is no other place between a form and what MONAI Label does with its files.
    """
    infer, datastore = monailabel.endpoints.infer, monailabel.endpoints.datastore
    infer.run_inference = _checked(infer.run_inference, check)
    for name in ("add_image", "save_label"):
        setattr(datastore, name, _checked(getattr(datastore, name), _check_upload))


def _checked(function: Callable[..., Any], check: Callable[[dict[str, Any]], Any]) -> Callable[..., Any]:
    original = inspect.unwrap(function)
    signature = inspect.signature(original)

    @wraps(original)
    def wrapped(*args: Any, **kwargs: Any) -> Any:
        form = signature.bind(*args, **kwargs)
        values = form.arguments
        with told():
            for field, suffixes in SUFFIXES.items():
                if (file := values.get(field)) is not None:
                    _check_name(file.filename or "", field, suffixes)
            params, asked = sent(values.get("params", "")), _asked(values)
            check({**params, **asked})
            if asked and params.pop(SEGMENT, None):  # which would take the place of the file `label`
                values["params"] = json.dumps(params)
        return original(*form.args, **form.kwargs)

    return wrapped


def _asked(values: Mapping[str, Any]) -> dict[str, Any]:
    """The model that a mask is wanted of; nothing of other forms."""
    if "model" not in values:
        return {}
    if values.get("session_id"):
        raise DataError("session_id: there are no sessions here; name an image or send one as a file")
    image = values.get("image", "")
    if not image and values.get("file") is None:
        raise DataError("image: expected the name of one, or a file")
    if image and not is_plain(image):  # the path of another client's file, perhaps
        raise DataError(f"image {image!r}: not in the study folder; GET /datastore/?output=all lists what is")
    return {"model": values["model"]}


def _check_name(name: str, field: str, suffixes: tuple[str, ...]) -> None:
    if not is_text(name) or suffix_of(name) not in suffixes:
        raise DataError(f"{field}: expected a file with a name that ends in {', '.join(suffixes)}, found {name[:99]!r}")


def _check_upload(params: Mapping[str, Any]) -> None:
    """Names of segments, which 3D Slicer sends with a label, pass: there is one kind, and they are not kept."""
    checked({key: value for key, value in params.items() if key != "label_info"}, UPLOAD)
