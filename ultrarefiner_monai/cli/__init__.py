"""The command line `ultrarefiner`: one thin function a verb, nothing heavy imported before a verb needs it."""

import os
import sys
from collections.abc import Sequence
from io import TextIOWrapper
from typing import Any

import fire

from ultrarefiner_monai.cli.command_line import UsageError, command, overview
from ultrarefiner_monai.cli.deploy import Export, predict
from ultrarefiner_monai.cli.manifests import Manifests
from ultrarefiner_monai.cli.reports import compare, report
from ultrarefiner_monai.cli.tools import bundles, doctor, phantom, relocate, systems, track, ui, version_told
from ultrarefiner_monai.cli.training import cv, quickstart
from ultrarefiner_monai.errors import DataError, refusal

GROUPS: dict[str, dict[str, Any]] = {  # in the order in which one needs them
    "start": {"quickstart": quickstart, "doctor": doctor, "systems": systems, "bundles": bundles},
    "data": {"manifests": Manifests(), "phantom": phantom},
    "train": {"cv": cv, "report": report, "compare": compare, "ui": ui, "track": track, "relocate": relocate},
    "use": {"predict": predict, "export": Export()},
}
VERBS = {name: verb for group in GROUPS.values() for name, verb in group.items()}


def run(words: Sequence[str]) -> None:
    """Do what the words of a command line say.

    Raises:
        UsageError: they are no command, and nothing was done.
        DataError: another mistake of the user's.
    """
    if list(words) == ["--version"]:
        print(f"ultrarefiner {version_told()}")
        return
    if not words or list(words) in (["-h"], ["--help"]):
        print(overview(GROUPS))
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
