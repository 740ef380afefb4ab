"""Charts: what their axes show at least."""

import pytest
from matplotlib.axes import Axes

from ultrarefiner_monai.metrics.scores import CHANGE
from ultrarefiner_monai.reports import plots
from ultrarefiner_monai.reports.plots import LEAST_RANGE, drawable, forest, learning_curve
from ultrarefiner_monai.reports.result_facts import Curve


@pytest.fixture
def axes(monkeypatch: pytest.MonkeyPatch) -> list[Axes]:
    """The axes of each chart that is drawn."""
    found: list[Axes] = []
    encoded = plots._encoded
    monkeypatch.setattr(plots, "_encoded", lambda figure: (found.extend(figure.axes), encoded(figure))[1])
    return found


def curve(*values: float) -> Curve:
    steps = list(range(1, len(values) + 1))
    return Curve(phase="phase1", fold=0, name="train_loss", steps=steps, values=list(values))


def test_noise_does_not_fill_an_axis(axes):
    learning_curve([curve(0.8, 0.802, 0.801)], {"train_loss": "loss"}, "loss")
    low, high = axes[0].get_ylim()
    assert high - low == pytest.approx(LEAST_RANGE) and (low + high) / 2 == pytest.approx(0.801)
    learning_curve([curve(0.1, 0.9)], {"train_loss": "loss"}, "loss")
    low, high = axes[1].get_ylim()
    assert low == pytest.approx(0.1 - 0.04) and high == pytest.approx(0.9 + 0.04)  # matplotlib's margin of 5 %


def test_changes_that_do_not_count_are_always_on_the_axis(axes):
    near = {"value": 0.001, "low": 0.0005, "high": 0.0015, "images": 9}
    forest([("all images", near), ("benign", near)], "change")
    low, high = axes[0].get_xlim()
    assert low < -CHANGE and high > CHANGE and high - low < 3 * CHANGE
    forest([("all images", near), ("benign", near | {"high": 0.5})], "change")
    assert axes[1].get_xlim()[1] > 0.5


def test_single_points_are_no_line():
    assert drawable([curve(0.5), curve(0.5, 0.6)]) and not drawable([curve(0.5), curve(0.6)]) and not drawable([])
