"""Releases as published: where their files lie, how each layout is read, and what is known of every image."""

from ultrarefiner_monai.data.releases.readers import Info, find_root, info
from ultrarefiner_monai.data.releases.roots import Root, folders_of, resolve, unsafe

__all__ = ["Info", "Root", "find_root", "folders_of", "info", "resolve", "unsafe"]
