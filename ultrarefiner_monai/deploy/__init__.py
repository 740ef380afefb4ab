"""Trained models for others: predictions of files, other formats, MLflow and MONAI Label."""
