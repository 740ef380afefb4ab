"""The command line `ultrarefiner`: one thin function a verb, nothing heavy imported before a verb needs it."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper

import fire

from ultrarefiner_monai import __version__
from ultrarefiner_monai.cli.command_line import UsageError, command
from ultrarefiner_monai.cli.deploy import Export, predict
from ultrarefiner_monai.cli.manifests import Manifests
from ultrarefiner_monai.cli.reports import compare, report
from ultrarefiner_monai.cli.tools import bundles, doctor, phantom, relocate, systems, track, ui
from ultrarefiner_monai.cli.training import cv, quickstart
from ultrarefiner_monai.errors import DataError, refusal

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
    "track": track,
    "ui": ui,
    "doctor": doctor,
}


def run(words: Sequence[str]) -> None:
    """Do what the words of a command line say.

    Raises:
        UsageError: they are no command, and nothing was done.
        DataError: another mistake of the user's.
    """
    if list(words) == ["--version"]:
        print(f"ultrarefiner {__version__}")
        return
    fire.Fire(VERBS, command(VERBS, words), name="ultrarefiner")


def main() -> None:
    """Run a verb; a mistake of the user's ends in one line on standard error and exit status 2 or 1."""
    if isinstance(sys.stdout, TextIOWrapper):  # names may hold what the terminal's encoding does not
        sys.stdout.reconfigure(errors="backslashreplace")
    try:
        try:
            run(sys.argv[1:])
        finally:
            sys.stdout.flush()
    except UsageError as error:
        print(error, file=sys.stderr)
        sys.exit(2)
    except DataError as error:
        sys.exit(str(error))
    except BrokenPipeError:  # the reader of a pipe, such as head, has seen enough
        _discard_output()
    except OSError as error:
        if (reason := refusal(error)) is None:
            raise
        _discard_output()
        sys.exit(reason)


def _discard_output() -> None:
    """Let Python's last flush of standard output succeed."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
