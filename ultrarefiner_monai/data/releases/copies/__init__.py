"""Copies: images of a release that show one scene, by perceptual hash, by a table of known ones, by name, by content."""
