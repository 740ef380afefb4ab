"""Intervals and tests for images that are not independent: several of them show the same patient.

An image's result depends on its patient, so that patients are what is drawn, resampled and counted. Means are still over
images, as in every other table.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
from scipy.special import ndtr, ndtri
from scipy.stats import wilcoxon

# Efron & Tibshirani 1993, "An Introduction to the Bootstrap": an interval's ends need 1000 resamples or more, BCa twice that.
RESAMPLES = 2000
LEVEL = 0.95
TOO_FEW = "too few patients"  # in place of a p-value that could not have been below 1 - LEVEL
FEW_PATIENTS = 20  # fewer make an interval too short (ibid., ch. 14); it is shown all the same, and said to be rough
METHOD = (
    f"{100 * LEVEL:.0f} % intervals: bias-corrected and accelerated (BCa) bootstrap, {RESAMPLES} resamples of patients, each "
    "with all their images; percentile intervals where BCa is undefined (all values equal)."
)
BLOCK = 256  # rows of weights that a statistic gets at once: of 10 000 images 20 MB


@dataclass(frozen=True)
class Estimate:
    """A mean, the ends of its interval (NaN where there are fewer than two patients), and what it was taken from."""

    value: float
    low: float
    high: float
    images: int
    patients: int


def mean_by_patient(values: Any, patients: Sequence[Any], seed: int = 0) -> Estimate:
    """Mean over images, with an interval by resampling patients.

    Args:
        values: (N,) values, NaN where undefined, which are left out.
        patients: (N,) whom each image shows.
        seed: of the resampling.
    """
    values = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(values)
    return ratio_by_patient(np.where(defined, values, 0), defined, patients, seed)


def ratio_by_patient(parts: Any, wholes: Any, patients: Sequence[Any], seed: int = 0) -> Estimate:
    """Sum of `parts` / sum of `wholes`, such as lesions found / lesions, with an interval by resampling patients.

    Args:
        parts: (N,) finite values.
        wholes: (N,) finite values >= 0; images and patients with 0 take no part.
        patients: (N,) whom each image shows.
        seed: of the resampling.
    """
    wholes = np.asarray(wholes, dtype=np.float64)
    used = wholes > 0
    if not used.any():
        return Estimate(math.nan, math.nan, math.nan, 0, 0)
    which = _numbered(patients)[used]
    tops = np.bincount(which, np.asarray(parts, dtype=np.float64)[used])
    bottoms = np.bincount(which, wholes[used])
    tops, bottoms = tops[bottoms > 0], bottoms[bottoms > 0]

    sums = np.stack([tops, bottoms], axis=1)

    def drawn(times: np.ndarray) -> np.ndarray:
        top, bottom = (times @ sums).T
        return top / bottom

    def left_out() -> np.ndarray:
        top, bottom = (sums.sum(axis=0) - sums).T
        return top / bottom

    value = float(tops.sum() / bottoms.sum())
    low, high, _ = _interval(value, drawn, left_out, len(tops), seed)
    return Estimate(value, low, high, int(used.sum()), len(tops))


def statistic_by_patient(
    statistic: Callable[[np.ndarray], np.ndarray], patients: Sequence[Any], seed: int = 0
) -> tuple[Estimate, int]:
    """Any statistic of images, such as an area under a curve, with an interval by resampling patients.

    Args:
        statistic: of how often (..., N) each image counts, (...); NaN where it is not defined, as without any image of a class.
        patients: (N,) whom each image shows.
        seed: of the resampling.

    Returns:
        The estimate, and how many of `RESAMPLES` resamples leave the statistic undefined: its interval is that of the others.
    """
    which = _numbered(patients)
    count = len(np.unique(which))
    value = float(statistic(np.ones(len(which))))

    def drawn(times: np.ndarray) -> np.ndarray:
        return np.concatenate([statistic(block[:, which].astype(float)) for block in _blocks(times)])

    def left_out() -> np.ndarray:
        blocks = _blocks(np.arange(count)[:, None])
        return np.concatenate([statistic((which != block).astype(float)) for block in blocks])

    low, high, undefined = _interval(value, drawn, left_out, count, seed)
    return Estimate(value, low, high, len(which), count), undefined


def signed_rank(differences: Any, patients: Sequence[Any]) -> float:
    """Two-sided p of Wilcoxon's signed-rank test on each patient's mean difference; NaN without any.

    The test asks for independent pairs, which two images of one patient are not. Differences of 0 are ranked before they
    are left out (Pratt 1959, JASA 54:655), so that an image's weight does not depend on how many others did not change.
    Where all are 0, p is 1.

    Args:
        differences: (N,) one an image, NaN where undefined.
        patients: (N,) whom each image shows.
    """
    means = patient_means(differences, patients).round(12)  # rounding errors must not break ties
    if not len(means):
        return math.nan
    if not means.any():
        return 1.0
    return float(wilcoxon(means, zero_method="pratt").pvalue)


def least_p(patients: int) -> float:
    """The smallest two-sided p that the exact signed-rank test of so many patients can give; NaN of none.

    Each of 2^n ways to give n differences their signs is equally likely by chance, and two are as extreme as "all alike".
    """
    return 2.0 ** (1 - patients) if patients else math.nan


def patient_means(values: Any, patients: Sequence[Any]) -> np.ndarray:
    """Mean of each patient's defined values, for those who have any."""
    values = np.asarray(values, dtype=np.float64)
    defined = np.isfinite(values)
    if not defined.any():
        return np.array([])
    which = _numbered(patients)[defined]
    counts = np.bincount(which)
    return np.bincount(which, values[defined])[counts > 0] / counts[counts > 0]


def holm(p_values: Sequence[float]) -> list[float]:
    """p-values corrected for all of them being looked at (Holm 1979, Scand J Stat 6:65); NaN is no test and stays NaN."""
    p = np.asarray(p_values, dtype=np.float64)
    order = np.argsort(p)[: np.count_nonzero(~np.isnan(p))]  # NaN sorts last
    stepped = np.maximum.accumulate(np.arange(len(order), 0, -1) * p[order])
    adjusted = np.full(len(p), np.nan)
    adjusted[order] = np.minimum(stepped, 1)
    return adjusted.tolist()


def correct(lines: Sequence[dict[str, Any]]) -> int:
    """Correct all lines with a test's `p` for each other; returns how many tests that are.

    Lines get `p_holm`, corrected by `holm`, and `p_holm_least`, which it would be if each test's patients, those of its
    `delta`, all agreed. No corrected p falls below that, since none rises when another p falls.
    """
    tested = [line for line in lines if "p" in line]
    known = [not math.isnan(line["p"]) for line in tested]
    least = [least_p(line["delta"]["patients"]) if one else math.nan for line, one in zip(tested, known, strict=True)]
    corrected = zip(tested, holm([line["p"] for line in tested]), holm(least), strict=True)
    for line, adjusted, attainable in corrected:
        line |= {"p_holm": adjusted, "p_holm_least": attainable}
    return sum(known)


def p_text(line: Mapping[str, Any], undefined: str = "-") -> str:
    """The corrected p of a line that `correct` has seen, for people: `TOO_FEW` where it had to be above 0.05."""
    p = line.get("p_holm", math.nan)
    if math.isnan(p):
        return undefined
    if line["p_holm_least"] > 1 - LEVEL:
        return TOO_FEW
    return "< 0.001" if p < 0.001 else f"{p:.3f}"


def _numbered(patients: Sequence[Any]) -> np.ndarray:
    return np.unique(np.asarray(list(patients), dtype=str), return_inverse=True)[1]


def _blocks(rows: np.ndarray) -> list[np.ndarray]:
    return np.array_split(rows, -(-len(rows) // BLOCK))


def _interval(
    value: float,
    drawn: Callable[[np.ndarray], np.ndarray],
    left_out: Callable[[], np.ndarray],
    patients: int,
    seed: int,
) -> tuple[float, float, int]:
    """Ends of the interval of a statistic, and how many resamples leave it undefined.

    SciPy's `bootstrap` leaves each patient out by a list of all others, n (n - 1) numbers for each of hundreds of intervals;
    from sums it takes n.

    Args:
        value: of all patients.
        drawn: values (R,) of how often each patient counts (R, n).
        left_out: values (n,) without one patient each.
        patients: their number n.
        seed: of the resampling.
    """
    if patients < 2:
        return math.nan, math.nan, 0
    with np.errstate(all="ignore"):
        values = drawn(_resamples(patients, seed))
        defined = values[np.isfinite(values)]
        if not len(defined):
            return math.nan, math.nan, RESAMPLES
        low, high = np.quantile(defined, _levels(value, defined, left_out()))
    return float(low), float(high), RESAMPLES - len(defined)


@lru_cache(maxsize=2)  # an interval follows another of the same patients, or of those in whom a metric is defined
def _resamples(patients: int, seed: int) -> np.ndarray:
    """How often each patient is drawn, (RESAMPLES, patients)."""
    generator = np.random.default_rng(seed)
    times = np.empty((RESAMPLES, patients), dtype=np.uint16)
    for row in times:
        row[:] = np.bincount(generator.integers(0, patients, patients), minlength=patients)
    return times


def _levels(value: float, drawn: np.ndarray, left_out: np.ndarray) -> np.ndarray:
    """The quantiles of the resampled values that are the ends: bias-corrected and accelerated (Efron 1987, JASA 82:171).

    The plain ones where these are not defined.
    """
    plain = np.array([(1 - LEVEL) / 2, (1 + LEVEL) / 2])
    bias = ndtri((np.mean(drawn < value) + np.mean(drawn <= value)) / 2)
    influence = left_out.mean() - left_out
    acceleration = (influence**3).sum() / (6 * (influence**2).sum() ** 1.5)
    shifted = bias + ndtri(plain)
    levels = ndtr(bias + shifted / (1 - acceleration * shifted))
    return levels if np.isfinite(levels).all() else plain
