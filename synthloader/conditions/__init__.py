"""Conditions: what steers a generator, such as the distance of every pixel."""

from synthloader.conditions.depth import DEPTH_KINDS, GroundPlane, convert_depth

__all__ = ["DEPTH_KINDS", "GroundPlane", "convert_depth"]
