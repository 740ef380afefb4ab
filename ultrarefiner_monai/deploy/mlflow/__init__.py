"""A trained model in MLflow: logged by a training, loaded by `mlflow.pyfunc` or served by `mlflow models serve`."""

from ultrarefiner_monai.lazy import lazily

__getattr__ = lazily(__name__, {"SegmentationModel": "model", "logged_model": "model"})
