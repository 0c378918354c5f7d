"""Adapters: the items of other people's datasets to samples and back; and datasets that recipes read from disk."""

from synthloader.adapters.folders.backgrounds import BackgroundsDataset
from synthloader.adapters.folders.coco import CocoDataset
from synthloader.adapters.folders.imagefolder import ImageFolderDataset
from synthloader.adapters.folders.images_folder import ImagesDataset, UnlabelledAdapter
from synthloader.adapters.folders.masks import MasksDataset
from synthloader.adapters.folders.voc import VocDataset
from synthloader.adapters.folders.yolo import YoloDataset
from synthloader.adapters.items.classification import ClassificationAdapter
from synthloader.adapters.items.detection import DetectionAdapter
from synthloader.adapters.items.dict_items import DictAdapter
from synthloader.adapters.items.hugging_face import HuggingFaceAdapter
from synthloader.adapters.items.semantic import SemanticAdapter
from synthloader.adapters.items.voc_items import VocAdapter

__all__ = [
    "BackgroundsDataset",
    "ClassificationAdapter",
    "CocoDataset",
    "DetectionAdapter",
    "DictAdapter",
    "HuggingFaceAdapter",
    "ImageFolderDataset",
    "ImagesDataset",
    "MasksDataset",
    "SemanticAdapter",
    "UnlabelledAdapter",
    "VocAdapter",
    "VocDataset",
    "YoloDataset",
]
