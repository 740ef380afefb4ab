"""The command line `ultrarefiner`: one thin function a verb, nothing heavy imported before a verb needs it."""

import os
import sys

import fire

from ultrarefiner_monai.cli.deploy import Export, predict
from ultrarefiner_monai.cli.manifests import Manifests
from ultrarefiner_monai.cli.reports import compare, report
from ultrarefiner_monai.cli.tools import bundles, doctor, phantom, relocate, systems
from ultrarefiner_monai.cli.training import cv, quickstart
from ultrarefiner_monai.errors import DataError

VERBS = {
    "quickstart": quickstart,
    "manifests": Manifests(),
    "phantom": phantom,
    "cv": cv,
    "report": report,
    "compare": compare,
    "predict": predict,
    "export": Export(),
    "systems": systems,
    "bundles": bundles,
    "relocate": relocate,
    "doctor": doctor,
}


def main() -> None:
    """Run a verb; a mistake of the user's ends in one line on standard error and exit status 1."""
    try:
        try:
            fire.Fire(VERBS, name="ultrarefiner")
        finally:
            sys.stdout.flush()
    except DataError as error:
        sys.exit(str(error))
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
