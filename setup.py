"""The one thing setup.cfg cannot say: folders of the checkout travel inside the wheel."""

import runpy
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py


class BuildWithFolders(build_py):
    """Put the folders into the package that is built; an editable install keeps using the checkout's."""

    def run(self) -> None:
        """Build the package and add the folders."""
        super().run()
        if not self.editable_mode:
            copy_shipped = runpy.run_path("ultrarefiner_monai/shipped.py")["copy_shipped"]
            copy_shipped(Path(self.build_lib, "ultrarefiner_monai", "_shipped"))


setup(cmdclass={"build_py": BuildWithFolders})
