"""How far two sets of values are apart: the Bhattacharyya distance, from histograms and between two Gaussians."""

from __future__ import annotations

import math

import numpy as np

from synthloader.checks import check_array, check_number, reject

__all__ = ["MAX_DISTANCE", "bhattacharyya_distance", "gaussian_distance"]

MAX_DISTANCE = 10.0
"""What stands for infinity where two sets have no bin in common; 0 says that they are distributed alike."""

_LEAST_BINS, _MOST_BINS = 8, 64


def bhattacharyya_distance(values_a: np.ndarray, values_b: np.ndarray, /) -> float:
    """Bhattacharyya distance of two sets of values, `-ln sum(sqrt(p q))` over histograms with common bins.

    Bins are equally wide over the range of both sets. Each set counts alike in choosing their width, by the rule of
    Freedman and Diaconis (1981), 2 IQR / n^(1/3): the smaller of the two IQRs, n the size of the smaller set; 8 to 64
    of them. With few values the estimate is too large: two samples of size n from one distribution have a distance of
    about (number of bins - 1) / (4 n) instead of 0.

    Args:
        values_a: (N,) finite, at least one.
        values_b: (M,) finite, at least one.

    Returns:
        0 for equal distributions, `MAX_DISTANCE` where no bin holds values of both.

    Raises:
        ValueError: A set is empty, or holds a value that is not finite.

    Source:
        Bhattacharyya 1943, "On a measure of divergence between two statistical populations defined by their
        probability distributions". Ours cuts the distance off at `MAX_DISTANCE`.

    Example:
        >>> low, high = np.linspace(0, 1, 100), np.linspace(1.5, 3, 100)
        >>> bhattacharyya_distance(low, low), bhattacharyya_distance(low, high)
        (0.0, 10.0)
    """
    sets = [_check_values(name, values) for name, values in (("values_a", values_a), ("values_b", values_b))]
    low, high = min(values.min() for values in sets), max(values.max() for values in sets)
    if low == high:
        return 0.0
    spreads = [float(np.subtract(*np.percentile(values, [75, 25]))) for values in sets]
    width = 2 * min(spreads) / min(map(len, sets)) ** (1 / 3)
    num_bins = _MOST_BINS if width * _MOST_BINS <= high - low else max(_LEAST_BINS, math.ceil((high - low) / width))
    shares = [np.histogram(values, bins=num_bins, range=(low, high))[0] / len(values) for values in sets]
    coefficient = float(np.sqrt(shares[0] * shares[1]).sum())
    # Rounding may lift the sum a little above 1.
    return min(MAX_DISTANCE, max(0.0, -math.log(coefficient))) if coefficient > 0 else MAX_DISTANCE


def gaussian_distance(mean_a: float, deviation_a: float, mean_b: float, deviation_b: float, /) -> float:
    """Bhattacharyya distance of two Gaussians, in closed form.

    Args:
        mean_a: Mean of the first.
        deviation_a: Its standard deviation, above 0.
        mean_b: Mean of the second.
        deviation_b: Its standard deviation, above 0.

    Source:
        Bhattacharyya 1943; the form for normal distributions of Kailath 1967, "The divergence and Bhattacharyya
        distance measures in signal selection".

    Example:
        >>> gaussian_distance(0, 1, 0, 1), gaussian_distance(0, 1, 4, 1)
        (0.0, 2.0)
    """
    for name, value in (("deviation_a", deviation_a), ("deviation_b", deviation_b)):
        if check_number(name, value, minimum=0) == 0:
            reject(name, "be above 0", value)
    ratio = deviation_a / deviation_b
    return 0.25 * (mean_a - mean_b) ** 2 / (deviation_a**2 + deviation_b**2) + 0.5 * math.log((ratio + 1 / ratio) / 2)


def _check_values(name: str, values: np.ndarray) -> np.ndarray:
    checked = check_array(name, np.asarray(values, np.float64), dtype=np.float64, shape=(None,))
    if not len(checked) or not np.isfinite(checked).all():
        reject(name, "hold at least one value, all of them finite", values)
    return checked
