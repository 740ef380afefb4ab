"""All folds of a data set through all stages of a system: the tasks, the engines that do them, and their scores."""

from ultrarefiner_monai.cross_validation.engines import Engine, LocalEngine, Task
from ultrarefiner_monai.cross_validation.tasks import CrossValidation

__all__ = ["CrossValidation", "Engine", "LocalEngine", "Task"]
