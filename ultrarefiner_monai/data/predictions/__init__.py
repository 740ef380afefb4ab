"""Predictions of a stage on disk: probability maps, their index, their mean, and the maps that the next stage refines."""

from ultrarefiner_monai.data.predictions.coarse_maps import CoarseMaps
from ultrarefiner_monai.data.predictions.index import INDEX_NAME, PredictionIndex
from ultrarefiner_monai.data.predictions.maps import map_name, read_map, write_map
from ultrarefiner_monai.data.predictions.mean import mean_of_maps
from ultrarefiner_monai.data.predictions.pairing import pair_predictions

__all__ = [
    "INDEX_NAME",
    "CoarseMaps",
    "PredictionIndex",
    "map_name",
    "mean_of_maps",
    "pair_predictions",
    "read_map",
    "write_map",
]
