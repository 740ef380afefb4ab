"""One run's numbers: MLflow, TensorBoard and a plain file. Knows nothing of engines."""

from ultrarefiner_monai.tracking.metrics_file import read_epochs
from ultrarefiner_monai.tracking.mlflow_run import MlflowRun
from ultrarefiner_monai.tracking.tracker import Tracker

__all__ = ["MlflowRun", "Tracker", "read_epochs"]
