"""Integrity: every file that a manifest lists, read and compared with what the manifest says of it."""

from ultrarefiner_monai.data.integrity.report import Report
from ultrarefiner_monai.data.integrity.verification import item_faults, verify

__all__ = ["Report", "item_faults", "verify"]
