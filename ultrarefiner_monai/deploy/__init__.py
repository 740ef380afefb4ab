"""Trained models outside of their bundle: a picture in, its mask out."""

from ultrarefiner_monai.deploy.segmenter import Segmenter, build_network, load_segmenter

__all__ = ["Segmenter", "build_network", "load_segmenter"]
