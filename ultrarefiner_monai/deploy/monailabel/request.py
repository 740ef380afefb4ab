"""What clients may ask of the server: the keys of their requests, and the kinds and ranges of the values.

A request's values end up in a configuration, whose texts may be expressions, in paths, and on a command line. So what is not
listed here is refused.
"""

import json
import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from tempfile import gettempdir
from typing import Any

from ultrarefiner_monai.data.releases.roots import unsafe
from ultrarefiner_monai.deploy.monailabel.clicks import KEYS as CLICKS
from ultrarefiner_monai.deploy.monailabel.labels import NIFTIS, NRRDS
from ultrarefiner_monai.deploy.monailabel.parts import options_of
from ultrarefiner_monai.errors import DataError, did_you_mean, one_line, raise_problems
from ultrarefiner_monai.systems import find_stage
from ultrarefiner_monai.systems.key import Key

MASK = ".png"  # masks are PNG unless a client wants another kind without loss
MOST = 100  # of an option that counts or scales something; more points would only keep the server busy
COMMON = (
    Key("client_id", "text", "who asks"),
    Key("logging", "choice", "level of the log", choices=("DEBUG", "INFO", "WARNING", "ERROR")),
)
INFER = (
    *COMMON,
    Key("result_extension", "choice", "kind of the mask's file", choices=(MASK, *NIFTIS, *NRRDS)),
    Key("result_dtype", "choice", "type of the mask's values", choices=("uint8", "uint16")),
    Key("result_compress", "truth value", "whether the mask's file is compressed"),
    Key("save_label", "truth value", "whether the mask is kept as a label"),
    Key("label_tag", "text", "the label's tag"),
)
BATCH = (
    *INFER,
    Key("images", "choice", "which ones", choices=("all", "labeled", "unlabeled")),
    Key("max_batch_size", "whole number", "how many at most, 0 for all", least=0),
    Key("max_workers", "whole number", "at once", least=0, most=MOST),
    Key("multi_gpu", "truth value", "without effect: one device does all"),
    Key("gpus", "choice", "without effect", choices=("all",)),
)
TRAIN = (
    *COMMON,
    Key("max_epochs", "whole number", "length of the training", above=0, most=10_000),
    Key("val_split", "number", "share of the images to validate on, -1 for none", least=-1, below=1),
)
SEGMENT = "label"  # in the options; the field `label` of a form is a file
UPLOAD = COMMON[:1]  # with an image or a label
OWN = frozenset({"image", "label", "bundle_path", "_id", "_image_id"})  # what the server adds to a request
PLAIN = re.compile(r"[^./\\$@%][^/\\]*")  # a file's name in its folder
NAME = "a name of at most 200 letters, without / and \\, that begins with none of . $ @ %"
LONGEST = 200  # bytes of a name: file systems take 255, with a suffix and what is added while a file is written
UPLOADED = re.compile(r"tmp[a-z0-9_]{8}(\..*)?")  # as Python's tempfile names what the server keeps of an upload


def option_keys(card: Mapping[str, Any]) -> list[Key]:
    """The options of a model, as `options_of` lists them with their defaults."""
    return [_option(name, default) for name, default in options_of(card).items()]


def click_keys(card: Mapping[str, Any]) -> list[Key]:
    """What a request for the mask of one image may have where clicks change it: clicks, a box, and the segment's name."""
    if not find_stage(card["stage"])[1].clickable:
        return []
    return [*CLICKS, Key(SEGMENT, "text", "name of the segment that is drawn, without effect")]


def _option(name: str, default: Any) -> Key:
    match default:
        case list():
            return Key(name, "choice", "the mask that is shown", choices=tuple(default))
        case bool():
            return Key(name, "truth value", "whether it is used")
        case int():
            return Key(name, "whole number", "how many", least=0, most=MOST)
    return Key(name, "number", "how much", least=0, most=1 if name == "threshold" else MOST)


def device_key(names: Iterable[str]) -> Key:
    """The key `device`; `names` are the server's own of the devices that it has."""
    return Key("device", "choice", "where it is computed", choices=tuple(dict.fromkeys(("cpu", "cuda", *names))))


def checked(request: Mapping[str, Any], keys: Iterable[Key], own: Iterable[str] = ()) -> dict[str, Any]:
    """A copy of a request with its values as the `keys` read them; what is the server's `own` stays as it is.

    A client that lets a list of choices stand sends all of it and means the first.

    Raises:
        DataError: unknown keys, or values that they cannot have; all of them are told.
    """
    known = {key.name: key for key in keys}
    found, problems = dict(request), []
    for name, value in request.items():
        if name in own:
            continue
        if name not in known:
            problems.append(f"unknown key {name[:LONGEST]!r}: {did_you_mean(name[:LONGEST], known)}")
            continue
        key = known[name]
        try:
            stands = isinstance(value, list) and value and all(one in key.choices for one in value)
            found[name] = key.read(value[0] if stands else value)
            if key.kind == "text" and not is_plain(found[name]):
                raise DataError(f"{name}: expected {NAME}, found {value!r}")
        except DataError as error:
            problems.append(one_line(error))
    raise_problems("request", problems)
    return found


def sent(text: str) -> dict[str, Any]:
    """The object in the JSON of a form.

    Raises:
        DataError: it is none.
    """
    try:
        found = json.loads(text or "{}")
    except (ValueError, RecursionError) as error:
        raise DataError(f"params: expected an object of JSON ({one_line(error)})") from None
    if not isinstance(found, dict):
        raise DataError(f"params: expected an object of JSON, found {type(found).__name__}")
    return found


def is_text(text: str) -> bool:
    """Whether a text can be shown in one line, and be a file's name for its length."""
    return (not text or text.isprintable()) and len(text.encode(errors="replace")) <= LONGEST


def is_plain(name: str) -> bool:
    """Whether a client's text names a file in a folder and leads nowhere else; hidden ones do not count."""
    return bool(PLAIN.fullmatch(name)) and is_text(name) and not unsafe(name)


def is_upload(path: str) -> bool:
    """Whether a path is that of a file which came with a request, and not one that a client has merely named."""
    file = Path(path)
    return str(file.parent) == gettempdir() and bool(UPLOADED.fullmatch(file.name)) and not file.is_symlink()
