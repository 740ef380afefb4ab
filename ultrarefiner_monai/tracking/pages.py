"""Addresses of MLflow's pages, of which the one that it opens by itself is about language models."""

from urllib.parse import quote

from ultrarefiner_monai.errors import DataError, did_you_mean
from ultrarefiner_monai.tracking.store import check_store, open_store
from ultrarefiner_monai.tracking.store_checks import database_of

TRAININGS = "tags.kind = 'training'"


def comparison_page(address: str, uri: str, dataset: str | None = None) -> str:
    """The page on which the trainings of a data set stand side by side, or without one the list of all data sets.

    Args:
        address: of the server, such as http://127.0.0.1:5000.
        uri: the store that it shows.
        dataset: name of the experiment.

    Raises:
        DataError: the store cannot be read, or has no such experiment.
    """
    if database_of(uri) is not None:
        check_store(uri)
    client = open_store(uri, recording=False)
    if dataset is None:
        return f"{address}/#/experiments"
    known = {found.name: found.experiment_id for found in client.search_experiments()}
    if dataset not in known:
        raise DataError(f"{uri}: no runs of '{dataset}': {did_you_mean(dataset, sorted(known))}")
    asked = f"workflowType=machine_learning&searchFilter={quote(TRAININGS)}"
    return f"{address}/#/experiments/{quote(known[dataset])}/runs?{asked}"
