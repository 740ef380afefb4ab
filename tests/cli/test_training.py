"""What `ultrarefiner cv` makes of its words."""

from pathlib import Path

import fire
import pytest

from ultrarefiner_monai.cli import VERBS
from ultrarefiner_monai.cross_validation.engines import LocalEngine
from ultrarefiner_monai.errors import DataError


@pytest.fixture
def asked(monkeypatch):
    """What the verb asks for: the words are read, nothing is trained."""
    seen = {}

    def conduct(studies, phases, only_folds, engine):
        seen.update(studies=studies, phases=phases, only_folds=only_folds, engine=engine)
        return ["| table |"] * len(studies)

    monkeypatch.setattr("ultrarefiner_monai.cross_validation.conduct.conduct", conduct)
    return seen


@pytest.mark.parametrize("names", ["BUSI,BUSBRA", "[BUSI,BUSBRA]", "BUSI, BUSBRA,BUSI"])
def test_each_of_several_data_sets_is_a_study_of_its_own(names, asked, capsys):
    fire.Fire(VERBS, ["cv", names, "data", "--out", "results", "--seed", "1"])
    assert [(study.dataset, study.data_root, study.out) for study in asked["studies"]] == [
        ("BUSI", "data", Path("results/BUSI")),
        ("BUSBRA", "data", Path("results/BUSBRA")),
    ]
    assert all(study.shared == {"seed": 1} for study in asked["studies"])
    assert capsys.readouterr().out.split("\n")[:4] == ["BUSI", "| table |", "BUSBRA", "| table |"]


@pytest.mark.parametrize(
    ("words", "folders"),
    [
        (["BUSI"], ["runs/BUSI"]),
        (["BUSI", "--out", "mine"], ["mine"]),
        (["BUSI+BUS"], ["runs/BUSI+BUS"]),
        (["BUSI+BUS,UDIAT"], ["runs/BUSI+BUS", "runs/UDIAT"]),
    ],
)
def test_results_of_a_data_set_go_into_a_folder_of_its_name_unless_told_otherwise(words, folders, asked):
    fire.Fire(VERBS, ["cv", *words, "--data_root", "data"])
    assert [study.out.as_posix() for study in asked["studies"]] == folders
    assert isinstance(asked["engine"], LocalEngine)


def test_options_of_ray_reach_it(asked):
    pytest.importorskip("ray")
    fire.Fire(VERBS, ["cv", "BUSI", "data", "--engine", "ray", "--address", "node1:6379", "--num_cpus", "4"])
    assert (asked["engine"].address, asked["engine"].num_cpus) == ("node1:6379", 4)


def test_options_of_ray_without_it_are_refused(asked):
    with pytest.raises(DataError, match="num_cpus: only for the engine 'ray'"):
        fire.Fire(VERBS, ["cv", "BUSI", "data", "--num_cpus", "4"])
    assert not asked
