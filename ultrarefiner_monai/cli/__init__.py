"""The command line ``ultrarefiner``: one thin function a verb, nothing heavy imported before a verb needs it."""

import sys

import fire

from ultrarefiner_monai.cli.manifests import Manifests
from ultrarefiner_monai.cli.studies import cv, quickstart
from ultrarefiner_monai.cli.tools import doctor, phantom
from ultrarefiner_monai.data.errors import DataError

VERBS = {
    "quickstart": quickstart,
    "manifests": Manifests,
    "phantom": phantom,
    "cv": cv,
    "doctor": doctor,
}


def main() -> None:
    """Run a verb; a mistake of the user's ends in one line on standard error and exit status 1."""
    try:
        fire.Fire(VERBS, name="ultrarefiner")
    except DataError as error:
        sys.exit(str(error))
