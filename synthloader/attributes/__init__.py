"""What can be measured of labelled pictures: attributes, the mixtures that they follow, and how far two sets differ."""

from synthloader.attributes.alignment import Configuration
from synthloader.attributes.distance import MAX_DISTANCE, bhattacharyya_distance, gaussian_distance
from synthloader.attributes.measure import ATTRIBUTES, Attribute, measure, scale_values
from synthloader.attributes.mixture import GaussianMixture1D, fit_mixture
from synthloader.attributes.report import AlignmentReport, AlignmentRow
from synthloader.attributes.search import Configurable

__all__ = [
    "ATTRIBUTES",
    "MAX_DISTANCE",
    "AlignmentReport",
    "AlignmentRow",
    "Attribute",
    "Configurable",
    "Configuration",
    "GaussianMixture1D",
    "bhattacharyya_distance",
    "fit_mixture",
    "gaussian_distance",
    "measure",
    "scale_values",
]
