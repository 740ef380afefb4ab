"""Anybody's own data: the layouts that people keep images and masks in, and the masks that have to be made from them.

One module a layout; each defines

    find(root, files, options) -> Layout | None     what the folder lists, or None where it has another layout

and raises `DataError` where the layout is its own, but cannot be read. `scan` asks them one after the other.
"""

from ultrarefiner_monai.data.releases.own.entries import COLUMNS, OwnOptions
from ultrarefiner_monai.data.releases.own.scan import Listing, scan

__all__ = ["COLUMNS", "Listing", "OwnOptions", "scan"]
