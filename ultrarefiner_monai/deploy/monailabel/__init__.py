"""A trained model as an app of a MONAI Label server."""
