"""What an OpenMMLab dataset gives behind its loading transforms, to samples and back."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

import cv2
import numpy as np
from torch.utils.data import Dataset

from synthloader.adapters.items.coco_annotations import read_annotations, write_annotations
from synthloader.adapters.items.fields import pack, unpack
from synthloader.checks import check_choice, check_int, check_type, reject
from synthloader.errors import LabelContractError
from synthloader.keys import make_fingerprint
from synthloader.polygons import NoOutlineError, trace_outline
from synthloader.sample import Sample
from synthloader.sources import ItemFacts
from synthloader.targets import ClassLabel, Instances, SemanticMask, Target

__all__ = ["GAVE_UP", "LoadedItems", "ResultsAdapter", "split_pipeline"]

Results = dict[str, Any]
GAVE_UP = "the pipeline gave None"
_VERSION = 1
_MADE_BY_LOADING = ("img", "img_shape", "ori_shape", "instances", "gt_label")
_OF_INSTANCES = ("bbox", "bbox_label", "ignore_flag", "mask")
_OF_ANNOTATIONS = ("bbox", "category_id", "iscrowd", "segmentation", "id", "image_id", "area")


def split_pipeline(transforms: Sequence[Any], num_loading: int | None, /) -> tuple[list[Any], list[Any]]:
    """The transforms that load, and those behind them.

    Args:
        transforms: Of a dataset's pipeline.
        num_loading: How many load; None: those at the beginning whose class is called `Load...`.
    """
    loads = [type(transform).__name__.startswith("Load") for transform in transforms]
    if num_loading is None:
        num_loading = loads.index(False) if False in loads else len(loads)
        if any(loads[num_loading:]):
            names = [type(transform).__name__ for transform in transforms]
            remedy = "Put them first, or say how many load: num_loading=2."
            reject("pipeline", "load before it transforms", names, remedy)
    elif not 0 <= check_int("num_loading", num_loading) <= len(transforms):
        reject("num_loading", f"be at most the {len(transforms)} transforms of the pipeline", num_loading)
    return list(transforms[:num_loading]), list(transforms[num_loading:])


class LoadedItems(Dataset[Any]):
    """A `BaseDataset` as the library sees it: bare items are `(results,)` as the loading transforms leave them.

    A served real item is what the dataset itself gives, untouched.
    """

    lifts_transforms = True

    def __init__(self, dataset: Any, num_loading: int | None) -> None:
        self.dataset = dataset
        self.loading, self.rest = split_pipeline(dataset.pipeline.transforms, num_loading)
        self.transforms: Callable[..., Any] | None = self.transform_results
        classes = dataset.metainfo.get("classes", ())
        self.class_to_idx = {str(name): number for number, name in enumerate(classes)}

    def __len__(self) -> int:
        return len(self.dataset)

    def __getitem__(self, index: int) -> Any:
        return (self.load(index),) if self.transforms is None else self.dataset[index]

    def load(self, index: int, /) -> Results:
        """The results of the loading transforms."""
        results: Any = self.dataset.get_data_info(index)
        for transform in self.loading:
            results = transform(results)
            if results is None:
                reject(f"{type(transform).__name__} of item {index}", "load it", None, "The file may be broken.")
        loaded: Results = results
        return loaded

    def transform_results(self, results: Results, /) -> Any:
        """What stands behind the loading transforms in the pipeline; `GAVE_UP` where one of them gave None."""
        made: Any = results
        for transform in self.rest:
            made = transform(made)
            if made is None:
                return {GAVE_UP: True}
        return made

    def read_facts(self, index: int, /) -> ItemFacts:
        """What the annotation says of an item."""
        info = self.dataset.get_data_info(index)
        file, size_hw = info.get("img_path"), None
        if "height" in info and "width" in info:
            size_hw = (int(info["height"]), int(info["width"]))
        class_ids = annotation = None
        if isinstance(info.get("instances"), list):
            annotation = info["instances"]
            class_ids = [int(instance["bbox_label"]) for instance in annotation if "bbox_label" in instance]
        elif "gt_label" in info:
            annotation = [int(info["gt_label"])]
            class_ids = annotation
        if not isinstance(file, str):
            return ItemFacts(str(info.get("img_id", index)), None, annotation, size_hw, class_ids)
        root = getattr(self.dataset, "data_root", None) or os.path.dirname(file)
        return ItemFacts(os.path.relpath(file, root), file, annotation, size_hw, class_ids)


class ResultsAdapter:
    """`(results,)`, the dict that OpenMMLab's loading transforms leave, for detection, segmentation, classification.

    What says where things are: `instances` (`bbox` x1 y1 x2 y2, `bbox_label`, `ignore_flag`, `mask`), the mask
    `gt_seg_map`, or the class `gt_label`. A generated item gets new `instances`, on which the transforms that load
    annotations run as they do on real ones, so that `gt_bboxes` and `gt_masks` are of the classes that the trainer
    wants.

    Args:
        loading: The loading transforms.
        channel_order: Of `img`: `"bgr"`, as OpenMMLab loads it, or `"rgb"`.
        bad_boxes: `"error"` or `"drop"`, as of `DetectionAdapter`.
    """

    def __init__(self, loading: Sequence[Any] = (), *, channel_order: str = "bgr", bad_boxes: str = "error") -> None:
        self.channel_order = check_choice("channel_order", channel_order, ("bgr", "rgb"))
        self.bad_boxes = check_choice("bad_boxes", bad_boxes, ("error", "drop"))
        self._loading = [each for each in loading if "Image" not in type(each).__name__]
        self._needs_polygons = any(getattr(each, "poly2mask", True) is False for each in self._loading)
        self._is_checked = False

    @property
    def fingerprint(self) -> str:
        """Name, version and options."""
        return make_fingerprint("ResultsAdapter", _VERSION, channel_order=self.channel_order, bad_boxes=self.bad_boxes)

    def to_sample(self, item: tuple[Results], /, *, index: int) -> Sample:
        """The sample of one item behind its loading transforms.

        Raises:
            ValueError: The image is not 8 bit, the annotation is wrong, or there is no label, or two.
        """
        (results,) = item
        image = results.get("img")
        if not isinstance(image, np.ndarray):
            reject(f"dataset[{index}]['img']", "be an array", image, "Does the pipeline load it?", error=TypeError)
        pixels = self._read_image(image, f"dataset[{index}]['img']")
        target = self._read_target(results, (pixels.shape[0], pixels.shape[1]), index)
        keeps_all = isinstance(target, SemanticMask)  # nothing is loaded again for it
        rest = {
            key: pack(value)
            for key, value in results.items()
            if key not in _MADE_BY_LOADING and (key != "gt_seg_map" if keeps_all else not key.startswith("gt_"))
        }
        form = {"shape": list(image.shape), "dtype": image.dtype.str}
        if keeps_all:
            form["mask"] = results["gt_seg_map"].dtype.str
        return Sample(pixels, target, fields={"results": rest, "form": form})

    def from_sample(self, sample: Sample, /, *, like: tuple[Results]) -> tuple[Results]:
        """What loading would have left of a sample, in memory of its own; `like` says nothing that is not known."""
        form = sample.fields["form"]
        height, width = sample.size_hw
        image = self._write_image(sample.image, form)
        results: Results = {key: unpack(value) for key, value in sample.fields["results"].items()}
        results |= {"img": image, "img_shape": (height, width), "ori_shape": (height, width)}
        results |= {key: value for key, value in (("height", height), ("width", width)) if key in results}
        match sample.target:
            case ClassLabel(class_id=class_id):
                results["gt_label"] = class_id
            case SemanticMask(mask=mask):
                results["gt_seg_map"] = mask.astype(form["mask"])
            case Instances() as instances:
                self._check_loading(results)
                results["instances"] = self._write_instances(instances, sample.size_hw)
                results = self._load(results)
        return (results,)

    def read_class_ids(self, item: tuple[Results], /) -> list[int]:
        """The classes of an item behind its loading transforms."""
        (results,) = item
        if "instances" in results:
            return [int(instance["bbox_label"]) for instance in results["instances"]]
        if "gt_label" in results:
            return [int(results["gt_label"])]
        return [int(number) for number in np.setdiff1d(results["gt_seg_map"], [0, 255])]

    # ---- images

    def _read_image(self, image: np.ndarray, name: str) -> np.ndarray:
        levels = image
        if image.dtype.kind == "f":  # to_float32=True: the same levels as floats
            levels = image.astype(np.uint8)
            if not np.array_equal(levels, image):
                reject(f"the values of {name}", "be whole numbers in 0..255", [float(image.min()), float(image.max())])
        elif image.dtype != np.uint8:
            reject(name, "be uint8, or the same levels as floats", image, error=TypeError)
        if levels.ndim == 2 or levels.shape[2] == 1:
            grey: np.ndarray = cv2.cvtColor(np.ascontiguousarray(levels), cv2.COLOR_GRAY2RGB)
            return grey
        return np.ascontiguousarray(levels[:, :, ::-1] if self.channel_order == "bgr" else levels)

    def _write_image(self, pixels: np.ndarray, form: dict[str, Any]) -> np.ndarray:
        shape = list(form["shape"])
        if len(shape) == 2 or shape[2] == 1:
            levels: np.ndarray = cv2.cvtColor(pixels, cv2.COLOR_RGB2GRAY)
            levels = levels if len(shape) == 2 else levels[:, :, None]
        else:
            levels = np.array(pixels[:, :, ::-1] if self.channel_order == "bgr" else pixels, order="C")
        return levels.astype(form["dtype"], copy=False)

    # ---- labels

    def _read_target(self, results: Results, size_hw: tuple[int, int], index: int) -> Target:
        told = [key for key in ("instances", "gt_seg_map", "gt_label") if results.get(key) is not None]
        if len(told) != 1:
            reject(
                f"dataset[{index}]",
                "have one of 'instances', 'gt_seg_map' and 'gt_label' behind its loading transforms",
                told,
                "A generator keeps one of them true: panoptic and multi-task labels cannot be mixed.",
            )
        if told == ["gt_label"]:
            return ClassLabel(check_int(f"dataset[{index}]['gt_label']", np.asarray(results["gt_label"]).item()))
        if told == ["gt_seg_map"]:
            return SemanticMask(np.ascontiguousarray(results["gt_seg_map"], dtype=np.int32))
        name = f"dataset[{index}]['instances']"
        check_type(name, results["instances"], list)
        annotations = [_to_annotation(instance, f"{name}[{row}]") for row, instance in enumerate(results["instances"])]
        return read_annotations(annotations, size_hw=size_hw, name=name, drop_bad=self.bad_boxes == "drop")

    def _write_instances(self, instances: Instances, size_hw: tuple[int, int]) -> list[dict[str, Any]]:
        annotations = write_annotations(instances, size_hw=size_hw, image_id=0)
        written = []
        for row, annotation in enumerate(annotations):
            instance: dict[str, Any] = {key: value for key, value in annotation.items() if key not in _OF_ANNOTATIONS}
            instance["bbox"] = [float(number) for number in instances.boxes[row]]
            instance["bbox_label"] = int(instances.class_ids[row])
            instance["ignore_flag"] = int(instances.crowd is not None and bool(instances.crowd[row]))
            if "segmentation" in annotation:
                segmentation = annotation["segmentation"]
                if self._needs_polygons and isinstance(segmentation, dict) and instances.masks is not None:
                    segmentation = [_trace(instances.masks[row])]
                instance["mask"] = segmentation
            written.append(instance)
        return written

    def _load(self, results: Results) -> Results:
        image, loaded = results["img"], results
        for transform in self._loading:
            loaded = transform(loaded)
            if loaded is None or loaded.get("img") is not image:
                raise LabelContractError(
                    f"{type(transform).__name__} must load annotations from 'instances' and leave 'img' alone, which "
                    f"is generated. A transform that loads images has 'Image' in the name of its class."
                )
        return loaded

    def _check_loading(self, results: Results) -> None:
        """Refuse transforms that load labels from elsewhere than `instances`: those would be the source's."""
        if self._is_checked:
            return
        loaded = self._load({**results, "instances": []})
        left = [
            key for key, value in loaded.items() if key.startswith("gt_") and hasattr(value, "__len__") and len(value)
        ]
        if left:
            raise LabelContractError(
                f"the loading transforms fill {left} from elsewhere than 'instances': a generated image would get the "
                f"labels of its source. Write the annotation as OpenMMLab's 'instances'."
            )
        self._is_checked = True


def _to_annotation(instance: dict[str, Any], name: str) -> dict[str, Any]:
    for field in ("bbox", "bbox_label"):
        if field not in instance:
            reject(name, f"have {field!r}", list(instance), "Correct the annotation.")
    x1, y1, x2, y2 = (float(number) for number in instance["bbox"])
    annotation = {key: value for key, value in instance.items() if key not in (*_OF_INSTANCES, *_OF_ANNOTATIONS)}
    annotation |= {"bbox": [x1, y1, x2 - x1, y2 - y1], "category_id": int(instance["bbox_label"])}
    annotation["iscrowd"] = int(instance.get("ignore_flag", 0))
    if "mask" in instance:
        annotation["segmentation"] = instance["mask"]
    return annotation


def _trace(mask: np.ndarray) -> list[float]:
    try:
        outline: list[float] = trace_outline(mask).reshape(-1).tolist()
    except NoOutlineError as error:
        raise LabelContractError(
            f"a generated mask must be one polygon, because LoadAnnotations(poly2mask=False) reads nothing else, got "
            f"an {error}. Pass filters=[SinglePolygon()], or load with poly2mask=True."
        ) from error
    return outline
