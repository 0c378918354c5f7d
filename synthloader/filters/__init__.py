"""Filters: whether a generated sample is good enough, one question per file."""

from synthloader.filters.min_box import MinBox
from synthloader.filters.single_polygon import SinglePolygon
from synthloader.registry import register_plugin

__all__ = ["MinBox", "SinglePolygon"]

register_plugin("filters", MinBox)
register_plugin("filters", SinglePolygon)
