"""Adapters: the items of other people's datasets to samples and back; and datasets that recipes read from disk."""

from synthloader.adapters.classification import ClassificationAdapter
from synthloader.adapters.coco import CocoDataset
from synthloader.adapters.detection import DetectionAdapter
from synthloader.adapters.dict_items import DictAdapter
from synthloader.adapters.hugging_face import HuggingFaceAdapter
from synthloader.adapters.imagefolder import ImageFolderDataset
from synthloader.adapters.images_folder import ImagesDataset, UnlabelledAdapter
from synthloader.adapters.masks import MasksDataset
from synthloader.adapters.semantic import SemanticAdapter
from synthloader.adapters.voc import VocDataset
from synthloader.adapters.voc_items import VocAdapter
from synthloader.adapters.yolo import YoloDataset

__all__ = [
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
