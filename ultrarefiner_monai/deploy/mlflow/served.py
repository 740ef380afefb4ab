"""The code that MLflow runs when it loads a logged model."""

from mlflow.models import set_model

from ultrarefiner_monai.deploy.mlflow.model import SegmentationModel

set_model(SegmentationModel())
