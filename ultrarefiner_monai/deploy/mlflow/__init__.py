"""A trained model in MLflow: logged by a training, loaded by `mlflow.pyfunc` or served by `mlflow models serve`."""

from ultrarefiner_monai.deploy.mlflow.model import SegmentationModel, logged_model

__all__ = ["SegmentationModel", "logged_model"]
