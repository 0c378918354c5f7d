"""Filters: whether a generated sample is good enough, one question per file."""

from synthloader.filters.min_box import MinBox
from synthloader.registry import register_plugin

__all__ = ["MinBox"]

register_plugin("filters", MinBox)
