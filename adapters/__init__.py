"""Adapters: the items of other people's datasets to samples and back; and datasets that recipes read from disk."""

from synthloader.adapters.coco import CocoDataset
from synthloader.adapters.detection import DetectionAdapter

__all__ = ["CocoDataset", "DetectionAdapter"]
