"""YOLO data sets from disk: what is read of them is what the pixels show, and what Ultralytics would read."""

from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import PIL.Image
import pytest
import torch
import yaml

from synthloader import GeneratedDataset, LMDBCache
from synthloader.adapters.folders.yolo import YoloDataset, open_yolo
from synthloader.adapters.folders.yolo_labels import YoloRecord
from synthloader.keys import hash_content
from synthloader.registry import find_adapter, find_plugin
from synthloader.targets import Instances
from tests.scenes import Shade
from tests.shapes import NAMES, assert_boxes_true, draw_numbered, write_yolo

TASKS = ("detect", "segment", "pose", "obb")
each_task = pytest.mark.parametrize("task", TASKS)
SQUARE = "0 0.25 0.25 0.75 0.25 0.75 0.75 0.25 0.75"
BOX = "0 0.5 0.5 0.5 0.5"


def make(
    folder: Path,
    labels: dict[str, str | None],
    *,
    names: Any = ("cat", "dog"),
    split: Any = "images/train",
    **more: Any,
) -> Path:
    """Images of 40 x 20 pixels with these label files (None: no file), and their data.yaml."""
    for name, text in labels.items():
        image = folder / "images/train" / f"{name}.png"
        image.parent.mkdir(parents=True, exist_ok=True)
        PIL.Image.fromarray(np.full((20, 40, 3), 90, np.uint8)).save(image)
        if text is not None:
            file = folder / "labels/train" / f"{name}.txt"
            file.parent.mkdir(parents=True, exist_ok=True)
            file.write_text(text)
    data = folder / "data.yaml"
    data.write_text(yaml.safe_dump({"train": split, "names": list(names) if names else None, **more}))
    return data


class TestItems:
    @each_task
    def test_labels_are_true_on_pixels(self, tmp_path: Path, task: str) -> None:
        dataset = YoloDataset(write_yolo(tmp_path / "data", task=task), task=task)
        assert len(dataset) == 8
        for index in range(8):
            image, target = dataset[index]
            drawn = draw_numbered(index)
            assert image.dtype == torch.uint8
            assert (image.permute(1, 2, 0).numpy() == drawn.image).all()
            assert_boxes_true(drawn.image, target["boxes"].numpy(), target["labels"].numpy())
            assert np.abs(target["boxes"].numpy() - drawn.boxes).max() < 0.02
            assert target["labels"].tolist() == drawn.class_ids.tolist()
            if task == "segment":
                assert (target["masks"].numpy() == drawn.masks).all()
                assert target["area"].tolist() == drawn.masks.sum(axis=(1, 2)).tolist()
            if task in ("pose", "obb"):
                assert np.abs(target["keypoints"].numpy()[..., :2] - drawn.corners).max() < 1e-4
                assert (target["keypoints"][..., 2] == 2).all()
            assert ("masks" in target) == dataset.has_masks == (task in ("segment", "obb"))

    @each_task
    def test_items_are_recognised_and_come_back_bit_for_bit(self, tmp_path: Path, task: str) -> None:
        dataset = YoloDataset(write_yolo(tmp_path / "data", task=task), task=task)
        adapter = find_adapter(dataset, [dataset[0], dataset[1]])
        for index in range(3):
            item = dataset[index]
            sample = adapter.to_sample(item, index=index)
            assert isinstance(sample.target, Instances)
            image, target = adapter.from_sample(sample, like=dataset[5])
            assert torch.equal(image, item[0])
            assert list(target) == list(item[1])
            for field, value in item[1].items():
                same = torch.equal(target[field], value) if isinstance(value, torch.Tensor) else target[field] == value
                assert same, field

    @each_task
    def test_an_image_without_a_label_file_has_no_objects(self, tmp_path: Path, task: str) -> None:
        data = make(tmp_path, {"a": None, "b": "\n"}, kpt_shape=[4, 3])
        dataset = YoloDataset(data, task=task)
        for image, target in (dataset[0], dataset[1]):
            assert target["boxes"].shape == (0, 4)
            assert target["labels"].shape == (0,)
            if task == "pose":
                assert target["keypoints"].shape == (0, 4, 3)
            if dataset.has_masks:
                assert target["masks"].shape == (0, *image.shape[1:])
        assert find_adapter(dataset, [dataset[0]]).to_sample(dataset[0], index=0).size_hw == (20, 40)

    def test_polygons_in_detect_give_boxes_and_masks(self, tmp_path: Path) -> None:
        _, target = YoloDataset(make(tmp_path, {"a": SQUARE, "b": None}))[0]
        assert target["boxes"].tolist() == [[10, 5, 30, 15]]
        expected = np.zeros((20, 40), bool)
        expected[5:15, 10:30] = True
        assert (target["masks"][0].numpy() == expected).all()

    def test_polygons_beside_boxes_give_boxes_alone(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": SQUARE, "b": BOX}))
        assert [set(target) for _, target in (dataset[0], dataset[1])] == [
            {"image_id", "boxes", "labels", "area", "iscrowd"}
        ] * 2
        assert caplog.messages == [
            "1 of 2 images with objects have labels that are boxes, so the items come without masks."
        ]

    def test_points_without_visibility_are_visible(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": f"{BOX} 0.5 0.25"}, kpt_shape=[1, 2]), task="pose")
        assert dataset[0][1]["keypoints"].tolist() == [[[20, 5, 2]]]

    def test_points_without_visibility_that_lie_outside_are_hidden_as_in_ultralytics(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": f"{BOX} -0.005 0.25 0.5 -0.001 0.5 1.005"}, kpt_shape=[3, 2])
        dataset = YoloDataset(data, task="pose")
        assert dataset[0][1]["keypoints"].tolist() == [[[0, 0, 0], [0, 0, 0], [20, 20, 2]]]

    def test_points_without_a_label_stay_so(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": f"{BOX} 0 0 0 0.5 0.5 1"}, kpt_shape=[2, 3]), task="pose")
        assert dataset[0][1]["keypoints"].tolist() == [[[0, 0, 0], [20, 10, 1]]]

    @pytest.mark.parametrize("degrees", [0.0, 30.0, 75.0])
    def test_a_rotated_box_with_more_corners_is_the_smallest_one_in_pixels(
        self, tmp_path: Path, degrees: float
    ) -> None:
        corners = cv2.boxPoints(((200, 100), (120, 20), degrees))
        polygon = np.vstack([corners, (corners[3] + corners[0]) / 2]) / [400, 200]
        data = make(tmp_path, {"a": " ".join(["0", *map(repr, polygon.ravel().tolist())])})
        PIL.Image.new("RGB", (400, 200)).save(tmp_path / "images/train/a.png")
        target = YoloDataset(data, task="obb")[0][1]
        found = target["keypoints"][0].numpy()
        assert np.abs(found[:, None, :2] - corners[None]).max(axis=2).min(axis=1).max() < 0.01
        sides = np.linalg.norm(found[:, :2] - np.roll(found[:, :2], 1, axis=0), axis=1)
        np.testing.assert_allclose(np.sort(sides), [20, 20, 120, 120], atol=0.01)
        assert abs(int(target["masks"].sum()) - 2400) < 90
        box = [*corners.min(axis=0), *corners.max(axis=0)]
        np.testing.assert_allclose(target["boxes"][0].numpy(), box, atol=0.01)

    def test_four_corners_are_kept_whatever_they_are(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": "0 0.2 0.2 0.8 0.3 0.7 0.6 0.3 0.9"}), task="obb")
        expected = torch.tensor([[8, 4, 2], [32, 6, 2], [28, 12, 2], [12, 18, 2.0]])
        assert torch.allclose(dataset[0][1]["keypoints"][0], expected)

    def test_boxes_that_stick_out_are_clipped(self, tmp_path: Path) -> None:
        _, target = YoloDataset(make(tmp_path, {"a": "0 0.9 0.5 0.6 0.5"}))[0]
        assert torch.allclose(target["boxes"], torch.tensor([[24.0, 5, 40, 15]]))

    def test_classes_are_counted_from_zero_or_from_one_where_that_is_asked(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": f"1{BOX[1:]}"})
        for first in (0, 1):
            dataset = YoloDataset(data, first_class=first)
            assert dataset[0][1]["labels"].tolist() == [1 + first]
            assert dataset.class_to_idx == {"cat": first, "dog": 1 + first}
            assert dataset.read_facts(0).class_ids == [1 + first]
            assert dataset.classes == ["cat", "dog"]

    def test_images_are_turned_as_exif_says_like_in_ultralytics(self, tmp_path: Path) -> None:
        import cv2

        data = make(tmp_path, {"a": BOX})
        pixels = np.arange(20 * 40 * 3, dtype=np.uint8).reshape(20, 40, 3)
        for orientation in (1, 3, 6, 8):
            exif = PIL.Image.Exif()
            exif[0x0112] = orientation
            file = tmp_path / "images/train/a.jpg"
            PIL.Image.fromarray(pixels).save(file, exif=exif)
            (tmp_path / "images/train/a.png").unlink(missing_ok=True)
            dataset = YoloDataset(data)
            as_trained = cv2.imread(str(file))
            assert as_trained is not None
            image, target = dataset[0]
            assert (image.permute(1, 2, 0).numpy() == as_trained[:, :, ::-1]).all()
            height, width = as_trained.shape[:2]
            assert target["boxes"].tolist() == [[width / 4, height / 4, width * 3 / 4, height * 3 / 4]]
            assert dataset.get_height_and_width(0) == (height, width)

    def test_transforms_come_last(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": BOX}), transforms=lambda image, target: (image.float(), target))
        assert dataset.lifts_transforms
        assert dataset[0][0].dtype == torch.float32

    def test_it_can_be_sent_to_workers(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": BOX}))
        assert repr(pickle.loads(pickle.dumps(dataset))) == repr(dataset)
        assert repr(dataset) == f"YoloDataset(1 images, 2 classes, 'detect', root={str(tmp_path)!r})"

    def test_indices_are_checked(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"a": BOX, "b": None}))
        assert dataset[-1][1]["image_id"] == "images/train/b.png"
        with pytest.raises(IndexError, match=r"^index must lie in a dataset of 2 images, got index=2\.$"):
            dataset[2]


class TestFacts:
    def test_they_are_known_without_decoding(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"more/a": SQUARE})
        dataset = YoloDataset(data, task="segment")
        facts = dataset.read_facts(0)
        image = tmp_path / "images/train/more/a.png"
        assert facts.name == "images/train/more/a.png"
        assert facts.file == str(image)
        assert facts.size_hw == (20, 40)
        assert facts.class_ids == [0]
        corners = [[0.25, 0.25], [0.75, 0.25], [0.75, 0.75], [0.25, 0.75]]
        numbers = ["segment", 0, True, None, [0], [[0.5, 0.5, 0.5, 0.5]], [corners], None]
        assert facts.annotation == hash_content(numbers).hex()

    def test_the_annotation_changes_when_the_items_get_masks_because_of_another_image(self, tmp_path: Path) -> None:
        before = YoloDataset(make(tmp_path, {"a": SQUARE, "b": BOX}))
        after = YoloDataset(make(tmp_path, {"a": SQUARE, "b": SQUARE}))
        assert ("masks" in before[0][1], "masks" in after[0][1]) == (False, True)
        assert before.read_facts(0).annotation != after.read_facts(0).annotation

    def test_a_cache_serves_no_empty_masks_when_the_last_box_becomes_a_polygon(self, tmp_path: Path) -> None:
        for other, has_masks in ((BOX, False), (SQUARE, True)):
            dataset = YoloDataset(make(tmp_path, {"a": SQUARE, "b": other}))
            with LMDBCache(tmp_path / "cache") as cache:
                target = GeneratedDataset(dataset, Shade(), cache=cache, variants=1)[0][1]
            assert ("masks" in target) == has_masks
            if has_masks:
                assert torch.equal(target["masks"], dataset[0][1]["masks"])
                assert target["masks"].any()

    def test_the_annotation_of_an_image_without_objects_changes_with_the_number_of_points(self, tmp_path: Path) -> None:
        found = [YoloDataset(make(tmp_path, {"a": None}, kpt_shape=[n, 3]), task="pose").read_facts(0) for n in (3, 4)]
        assert found[0].annotation != found[1].annotation

    def test_nothing_is_decoded_at_construction(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": BOX})
        (tmp_path / "images/train/a.png").write_bytes(b"no image")
        dataset = YoloDataset(data)
        with pytest.raises(OSError, match=r"^cannot read the image .*a\.png: .*replace the file, or leave it out"):
            dataset[0]

    def test_names_do_not_change_when_images_are_added(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"b": BOX})
        before = YoloDataset(data).read_facts(0), YoloDataset(data)[0][1]["image_id"]
        make(tmp_path, {"a": None})
        assert (YoloDataset(data).read_facts(1), YoloDataset(data)[1][1]["image_id"]) == before


class TestFolders:
    def test_images_come_in_the_order_of_their_paths(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path, {"b": None, "a/z": None, "B": None}))
        names = [dataset.read_facts(index).name for index in range(3)]
        assert names == ["images/train/B.png", "images/train/a/z.png", "images/train/b.png"]

    def test_a_list_of_folders_and_a_list_in_a_file(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": BOX, "b": BOX, "c": BOX})
        (tmp_path / "images/more").mkdir()
        (tmp_path / "images/train/c.png").rename(tmp_path / "images/more/c.png")
        (tmp_path / "list.txt").write_text(f"./images/train/b.png\n\n{tmp_path / 'images/more/c.png'}\n")
        (tmp_path / "labels/more").mkdir()
        (tmp_path / "labels/more/c.txt").write_text(BOX)
        for split, wanted in (("list.txt", ["c", "b"]), (["images/more", "images/train"], ["c", "a", "b"])):
            dataset = YoloDataset(make(tmp_path, {}, split=split))
            assert [Path(record.image_file).stem for record in dataset.records] == wanted
            assert all(len(record) == 1 for record in dataset.records)

    def test_the_last_folder_called_images_becomes_labels(self, tmp_path: Path) -> None:
        dataset = YoloDataset(make(tmp_path / "images/set", {"a": BOX}))
        assert len(dataset[0][1]["boxes"]) == 1

    def test_splits_beside_the_folder_of_the_yaml(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": BOX})
        assert len(YoloDataset(make(tmp_path, {}, split="../images/train"))) == 1
        (tmp_path / "yaml").mkdir()
        data = make(tmp_path / "yaml", {}, split="../images/train")
        dataset = YoloDataset(data)
        assert dataset.read_facts(0).name == "images/train/a.png"

    def test_folders_without_a_yaml(self, tmp_path: Path) -> None:
        make(tmp_path, {"a": BOX, "b": f"2{BOX[1:]}"})
        (tmp_path / "labels/train").rename(tmp_path / "truth")
        dataset = YoloDataset(images=tmp_path / "images/train", labels=tmp_path / "truth")
        assert dataset.classes == ["0", "1", "2"]
        assert [target["labels"].tolist() for _, target in (dataset[0], dataset[1])] == [[0], [2]]
        named = YoloDataset(
            images=[tmp_path / "images/train"], labels=[tmp_path / "truth"], names={0: "x", 1: "y", 2: "z"}
        )
        assert named.classes == ["x", "y", "z"]

    def test_classification_opens_the_folder_of_the_split(self, tmp_path: Path) -> None:
        assert find_plugin("formats", "yolo") is open_yolo
        folder = write_yolo(tmp_path / "data", task="classify")
        dataset = open_yolo(folder, task="classify", split="val")
        assert len(dataset) == 3
        assert sorted(dataset.classes) == sorted(NAMES)


class TestRows:
    def test_rows_that_occur_twice_count_once(self, tmp_path: Path) -> None:
        other = f"1{BOX[1:]}"
        _, target = YoloDataset(make(tmp_path, {"a": f"{other}\n{BOX}\n{other}\n"}))[0]
        assert target["labels"].tolist() == [1, 0]

    def test_rounding_beyond_the_border_is_clipped(self, tmp_path: Path) -> None:
        text = "0 -0.005 0 1.004 0 1 1 0 1.01"
        _, target = YoloDataset(make(tmp_path, {"a": text}), task="segment")[0]
        assert target["boxes"].tolist() == [[0, 0, 40, 20]]
        assert target["masks"].all()

    def test_boxes_without_area_are_left_out_on_request(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": f"0 0.5 0.5 0 0.5\n{BOX}"})
        assert len(YoloDataset(data, bad_boxes="drop")[0][1]["boxes"]) == 1
        with pytest.raises(ValueError, match=r"a\.txt:1 must have a box with an area above 0"):
            YoloDataset(data)

    @pytest.mark.parametrize(
        ("task", "text", "said"),
        [
            ("detect", "2 0.5 0.5 0.1 0.1",
             "must begin with a class id below the number of names, 2, got {name}=2. "
             "Class ids count from 0. Correct the label file, or add the name."),
            ("detect", "-1 0.5 0.5 0.1 0.1",
             "must begin with a class id, counted from 0, got {name}=-1.0. Correct the label file."),
            ("detect", "0 0.5 0.5 0.1 1.02",
             "must have coordinates in 0..1, got {name}=1.02. Divide x by the image's width and y by its height."),
            ("detect", "0 0.5 0.5 0.1 x",
             "must hold numbers only, got {name}='0 0.5 0.5 0.1 x'. Correct the label file."),
            ("detect", "0 0.5 0.5 0.1 nan",
             "must hold finite numbers, got {name}='0 0.5 0.5 0.1 nan'. Correct the label file."),
            ("detect", "0 0.5 0.5 0.1 0.1 0.9",
             "must have a class and a box of 4 numbers, or a class and the x and y of 3 corners or more, "
             "got {name}='0 0.5 0.5 0.1 0.1 0.9'. Correct the label file."),
            ("segment", "0 0.5 0.5 0.1 0.1",
             "must have a class and the x and y of 3 corners or more, got {name}='0 0.5 0.5 0.1 0.1'. "
             "Correct the label file; where it holds boxes, read it with task='detect'."),
            ("segment", "0 0.5 0.5 0.1 0.1 0.9 0.8 0.7",
             "must have a class and the x and y of 3 corners or more, got {name}='0 0.5 0.5 0.1 0.1 0.9 0.8 0.7'. "
             "Correct the label file; where it holds boxes, read it with task='detect'."),
            ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5",
             "must have a class, a box and 1 points of 3 numbers (kpt_shape), got {name}='0 0.5 0.5 0.1 0.1 0.5 0.5'. "
             "Correct the label file, or kpt_shape in data.yaml."),
            ("pose", "0 0.5 0.5 0.1 0.1 0.5 0.5 3",
             "must have points of visibility 0, 1 or 2, got {name}=3.0. Correct the label file."),
            ("detect", "0 0.5 0.5 0 0.1",
             "must have a box with an area above 0, got {name}=[0.5, 0.5, 0.0, 0.1]. Correct the label file, or read "
             "it with bad_boxes='drop', which leaves such rows out."),
        ],
    )  # fmt: skip
    def test_a_wrong_row_is_named_with_file_and_line(self, tmp_path: Path, task: str, text: str, said: str) -> None:
        good = {"segment": SQUARE, "pose": f"{BOX} 0.5 0.5 2"}.get(task, BOX)
        data = make(tmp_path, {"a": f"{good}\n\n{text}\n"}, kpt_shape=[1, 3])
        name = f"{tmp_path}/labels/train/a.txt:3"
        with pytest.raises(ValueError, match="^" + re.escape(f"{name} {said.format(name=name)}") + "$"):
            YoloDataset(data, task=task)


class TestArguments:
    def refuse(self, said: str, error: type[Exception] = ValueError, **options: Any) -> None:
        with pytest.raises(error, match="^" + re.escape(said) + "$"):
            YoloDataset(**options)

    def test_the_task(self, tmp_path: Path) -> None:
        self.refuse(
            "task must be detect, segment, pose or obb, got task='classify'. Classes are folders: use "
            "ImageFolderDataset.",
            data=make(tmp_path, {"a": BOX}),
            task="classify",
        )

    def test_a_split_that_is_not_there(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": BOX})
        self.refuse(f"split must be in {data}, got split='val'. Allowed: train.", data=data, split="val")

    def test_a_missing_file_or_folder(self, tmp_path: Path) -> None:
        missing = tmp_path / "none.yaml"
        said = f"data must name an existing data.yaml, got data={str(missing)!r}."
        self.refuse(said, FileNotFoundError, data=missing)
        data = make(tmp_path, {"a": BOX}, path="elsewhere")
        said = f"'path' must name an existing folder, got 'path'='elsewhere'. A relative path is relative to {data}."
        self.refuse(said, FileNotFoundError, data=data)
        data = make(tmp_path, {}, split="images/other")
        name = f"'train' in {data}"
        said = f"{name} must name a folder or a file below {tmp_path}, got {name}='images/other'."
        self.refuse(said, FileNotFoundError, data=data)

    def test_pose_without_the_shape_of_its_points(self, tmp_path: Path) -> None:
        self.refuse(
            "kpt_shape must be given for task 'pose': the points, and 2 or 3 numbers for each, got kpt_shape=None. "
            "Write it into data.yaml, or pass kpt_shape=[17, 3].",
            data=make(tmp_path, {"a": BOX}),
            task="pose",
        )

    def test_names(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": BOX}, names=("cat", "cat"))
        self.refuse(f"names must be different for each class, got names='cat'. Correct {data}.", data=data)
        data.write_text(yaml.safe_dump({"train": "images/train", "names": {1: "cat"}}))
        self.refuse(f"names must number the classes 0, 1, 2, ..., got names=[1]. Correct {data}.", data=data)

    def test_a_list_may_not_lead_out_of_the_data_set(self, tmp_path: Path) -> None:
        make(tmp_path / "other", {"a": BOX})
        data = make(tmp_path / "set", {"b": BOX}, split="list.txt")
        image = tmp_path / "other/images/train/a.png"
        link = tmp_path / "set/images/train/c.png"
        link.symlink_to(image)
        for line in (str(image), "../other/images/train/a.png", "images/train/c.png"):
            (tmp_path / "set/list.txt").write_text(f"images/train/b.png\n{line}\n")
            name = f"{tmp_path}/set/list.txt:2"
            self.refuse(
                f"{name} must name an image below {tmp_path}/set, got {name}={line!r}. Set 'path' in data.yaml to a "
                "folder that holds all images, or give folders instead of a list.",
                data=data,
            )

    def test_data_and_images_exclude_each_other(self, tmp_path: Path) -> None:
        data = make(tmp_path, {"a": BOX})
        self.refuse(
            f"data must be given, or images=, and not both, got data={data!r}. data=data.yaml names the folders of all "
            "splits.",
            data=data,
            images=tmp_path,
        )
        self.refuse(
            "labels must be given with images= only, got labels='x'. With data=, labels lie beside the images.",
            data=data,
            labels="x",
        )

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        (tmp_path / "images/train").mkdir(parents=True)
        (tmp_path / "images/train/.hidden.png").touch()
        self.refuse(
            "'train' must hold images (.bmp, .jpeg, .jpg, .mpo, .pgm, .png, .ppm, .tif, .tiff, .webp), got "
            f"'train'='{tmp_path}/images/train'. Look at the path.",
            data=make(tmp_path, {}),
        )


class TestRecords:
    """What a trainer has read already."""

    def test_they_give_the_items_of_the_files(self, tmp_path: Path) -> None:
        read = YoloDataset(write_yolo(tmp_path / "data", task="segment"), task="segment")
        dataset = YoloDataset.from_records(read.records, root=read.root, names=dict(enumerate(NAMES)), task="segment")
        assert repr(dataset) == repr(read)
        assert dataset.read_facts(3) == read.read_facts(3)
        assert torch.equal(dataset[3][1]["masks"], read[3][1]["masks"])
        assert dataset.class_to_idx == read.class_to_idx

    def test_labels_that_the_task_cannot_have_are_refused(self, tmp_path: Path) -> None:
        record = YoloRecord(tmp_path / "a.png", (20, 40), np.array([0]), np.array([[0.5, 0.5, 0.5, 0.5]], np.float32))
        said = f"the labels of {record.image_file} must be polygons for task 'obb', got the labels of"
        with pytest.raises(ValueError, match="^" + re.escape(said)):
            YoloDataset.from_records([record], root=tmp_path, names={0: "a"}, task="obb")
