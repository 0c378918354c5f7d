"""One-dimensional Gaussian mixtures, with as many components as the values fall into by themselves."""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any

import numpy as np

from synthloader.checks import check_array, check_count, check_number, reject
from synthloader.errors import import_extra

__all__ = ["GaussianMixture1D", "fit_mixture"]

_LEAST_VALUES = 10
"""Fewer values than this for each component say nothing of its variance."""
_MOST_SCORED = 2000
"""Values of which the silhouette is computed: it compares each with each."""
_DIGITS = 9
"""What is kept of the fitted numbers, so that the order of a sum in another process cannot be seen in them."""


@dataclass(frozen=True, slots=True)
class GaussianMixture1D:
    """A mixture of Gaussians on a line, in the order of their means.

    Args:
        weights: Share of each component; they add up to 1.
        means: Mean of each.
        deviations: Standard deviation of each, above 0.
        silhouette: Mean silhouette of the split, -1..1; None for one component, which has none.
    """

    weights: tuple[float, ...]
    means: tuple[float, ...]
    deviations: tuple[float, ...]
    silhouette: float | None = None

    def __len__(self) -> int:
        """Number of components."""
        return len(self.weights)

    def find_responsibilities(self, values: np.ndarray, /) -> np.ndarray:
        """(N, K) probability with which each of (N,) values comes from each component; rows add up to 1."""
        scaled = (np.asarray(values, np.float64)[:, None] - self.means) / self.deviations
        logs = np.log(self.weights) - np.log(self.deviations) - scaled**2 / 2
        shares = np.exp(logs - logs.max(axis=1, keepdims=True))
        found: np.ndarray = shares / shares.sum(axis=1, keepdims=True)
        return found


def fit_mixture(values: np.ndarray, /, *, max_components: int = 5, min_silhouette: float = 0.7) -> GaussianMixture1D:
    """Fit a mixture to values; the number of components is that with the highest silhouette.

    The silhouette is undefined for one component. So there is one unless a split into 2 to `max_components` reaches
    `min_silhouette`, and has at least 10 values for each component. It says how much nearer a value is to those of its
    own component than to those of the next: splits of a single Gaussian reach 0.56, of a uniform distribution 0.60.
    The result depends on the values alone, not on their order, on a seed or on a global random state.

    Args:
        values: (N,) finite, at least one.
        max_components: Most components tried, at least 1.
        min_silhouette: What a split must reach, 0..1. 0.7 is where Kaufman and Rousseeuw (1990) speak of strong
            structure, and what two equal Gaussians reach that are four deviations apart.

    Raises:
        ValueError: There are no values, or one is not finite; or an argument is out of its bounds.
        MissingExtraError: scikit-learn is not installed.

    Source:
        Rousseeuw 1987, "Silhouettes: a graphical aid to the interpretation and validation of cluster analysis".
        Dempster, Laird, Rubin 1977 (EM); both as scikit-learn has them, the silhouette of at most 2000 values, drawn
        evenly by rank. A component's deviation is at least a hundredth of that of all values.

    Example:
        >>> values = np.concatenate([np.linspace(-1, 1, 60), np.linspace(9, 11, 20)])
        >>> mixture = fit_mixture(values)
        >>> mixture.weights, mixture.means
        ((0.75, 0.25), (0.0, 10.0))
    """
    check_count("max_components", max_components)
    check_number("min_silhouette", min_silhouette, minimum=0, maximum=1)
    checked = check_array("values", np.asarray(values, np.float64), dtype=np.float64, shape=(None,))
    if not len(checked) or not np.isfinite(checked).all():
        reject("values", "hold at least one value, all of them finite", values)
    mixtures, metrics = _import_extra("sklearn.mixture"), _import_extra("sklearn.metrics")

    ordered = np.sort(checked)
    center, spread = float(ordered.mean()), float(ordered.std())
    best = _sort_components(np.ones(1), np.array([center]), np.array([max(spread, _least_spread(ordered))]), None)
    if len(np.unique(ordered)) < 2:
        return best
    column = ((ordered - center) / spread)[:, None]
    scored = column[np.unique(np.linspace(0, len(column) - 1, min(len(column), _MOST_SCORED)).round().astype(int))]
    most = min(max_components, len(ordered) // _LEAST_VALUES, len(np.unique(scored)))
    highest = min_silhouette
    for num_components in range(2, most + 1):
        # "kmeans" as a start would sum in the order of its threads.
        model = mixtures.GaussianMixture(
            num_components, init_params="k-means++", n_init=4, random_state=0, reg_covar=1e-4, tol=1e-4, max_iter=5000
        ).fit(column)
        labels = model.predict(scored)
        counts = np.bincount(model.predict(column), minlength=num_components)
        if len(np.unique(labels)) < num_components or counts.min() < _LEAST_VALUES:
            continue
        silhouette = round(float(metrics.silhouette_score(scored, labels)), _DIGITS)
        if silhouette >= highest:
            highest = silhouette
            deviations = np.sqrt(model.covariances_[:, 0, 0])
            best = _sort_components(
                model.weights_, model.means_[:, 0] * spread + center, deviations * spread, silhouette
            )
    return best


def _import_extra(module: str) -> Any:
    state = random.getstate()  # One of the packages behind scikit-learn draws when it is first imported.
    try:
        return import_extra(module, extra="alignment", user="MetadataAlignment")
    finally:
        random.setstate(state)


def _least_spread(ordered: np.ndarray) -> float:
    """What stands for the deviation of values that are all alike: too small to matter, and not 0."""
    return 1e-6 * max(1.0, abs(float(ordered[0])))


def _sort_components(
    weights: np.ndarray, means: np.ndarray, deviations: np.ndarray, silhouette: float | None
) -> GaussianMixture1D:
    order = np.argsort(means)
    columns = [
        tuple(float(f"{number:.{_DIGITS}g}") for number in column[order].tolist())
        for column in (weights / weights.sum(), means + 0.0, deviations)
    ]
    return GaussianMixture1D(columns[0], columns[1], columns[2], silhouette)
