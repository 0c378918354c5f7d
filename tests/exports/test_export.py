from __future__ import annotations

import dataclasses
import json
import logging
import weakref
from collections import Counter
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.exports import FORMATS, ExportReport, export_samples
from synthloader.exports.provenance import describe_origin
from synthloader.sample import Origin, Sample
from synthloader.targets import ClassLabel, Instances, Target
from tests.exports.samples import (
    CLASS_NAMES,
    export,
    make_image,
    make_instances,
    make_name,
    make_no_instances,
    make_origin,
    make_sample,
    make_semantic,
    name_samples,
    read_tree,
)

TARGETS: dict[str, Target] = {
    "coco": make_instances(),
    "yolo-detect": make_instances(),
    "yolo-segment": make_instances(),
    "voc": make_instances(),
    "imagefolder": ClassLabel(7),
    "masks": make_semantic(np.full((24, 32), 7)),
    "webdataset": make_instances(),
}
FORMATS_OF = {
    "Instances": "Formats for Instances: 'coco', 'yolo-detect', 'yolo-segment', 'voc', 'webdataset'.",
    "ClassLabel": "Formats for ClassLabel: 'imagefolder', 'webdataset'.",
    "SemanticMask": "Formats for SemanticMask: 'masks', 'webdataset'.",
    "NoneType": "Formats for unlabelled images: 'webdataset'.",
}


def list_lines(folder: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in (folder / "provenance.jsonl").read_text().splitlines()]


@pytest.mark.parametrize("format", FORMATS)
class TestEveryFormat:
    def test_images_are_stored_without_loss(self, tmp_path: Path, format: str) -> None:
        sample = make_sample(0, TARGETS[format])
        chosen = {"image_format": "png"} if format == "voc" else {}  # Its readers look for JPEG.
        assert export([sample], tmp_path, format=format, **chosen).num_written == 1
        if format != "webdataset":
            (line,) = list_lines(tmp_path)
            image = cv2.imread(str(tmp_path / line["file"]), cv2.IMREAD_UNCHANGED)
            assert image is not None
            np.testing.assert_array_equal(image[:, :, ::-1], sample.image)

    def test_jpeg_is_near(self, tmp_path: Path, format: str) -> None:
        smooth = cv2.resize(make_image(0, (3, 4)), (32, 24), interpolation=cv2.INTER_CUBIC)
        export([Sample(smooth, TARGETS[format])], tmp_path, format=format, image_format="jpeg")
        (line,) = list_lines(tmp_path)
        assert line.get("member", line["file"]).endswith(f"{make_name(0)}.jpg")
        if format != "webdataset":
            image = cv2.imread(str(tmp_path / line["file"]), cv2.IMREAD_UNCHANGED)
            assert image is not None
            assert np.abs(image[:, :, ::-1].astype(int) - smooth).mean() < 3

    def test_equal_samples_give_equal_bytes(self, tmp_path: Path, format: str) -> None:
        for folder in ("a", "b"):
            export([make_sample(number, TARGETS[format]) for number in range(3)], tmp_path / folder, format=format)
        assert read_tree(tmp_path / "a") == read_tree(tmp_path / "b")

    def test_provenance_says_where_every_image_came_from(self, tmp_path: Path, format: str) -> None:
        edited = np.zeros((24, 32), np.bool_)
        edited[:5] = True
        samples = [
            make_sample(0, TARGETS[format]).replace(origin=make_origin(0, edited=edited)),
            make_sample(1, TARGETS[format], metadata={"weather": "fog"}),
            Sample(make_image(2), TARGETS[format]),
        ]
        export(samples, tmp_path, format=format)
        lines = list_lines(tmp_path)
        where = [(line.pop("file"), line.pop("member", None), line.pop("name")) for line in lines]
        assert [name for *_, name in where] == [make_name(number) for number in range(3)]
        files = read_tree(tmp_path)
        assert all(file in files for file, *_ in where)
        assert lines[0].pop("edited")["size"] == [24, 32]
        assert lines[1].pop("edited") is None
        plain = {
            "source": "real/1.jpg", "fingerprint": "Shade/1()", "variant": 1, "attempt": 1, "seed": 5,
            "drawn": ["a.png", "b.png"], "scores": {"MinBox": 0.5}, "prompt": "a fig", "model": "m/1",
        }  # fmt: skip
        fields = {field.name for field in dataclasses.fields(Origin)} - {"edited"}
        assert {name: value for name, value in lines[1].items() if name in plain} == plain
        assert set(lines[1]) - {"metadata"} <= fields
        assert lines[1]["metadata"] == {"weather": "fog"}
        assert lines[0]["source"] == "real/0.jpg"
        assert lines[2] == {}

    def test_the_card_lies_beside(self, tmp_path: Path, format: str) -> None:
        card = {"ratio": 0.5, "classes": ["ä"], "report": {"accepted": 3}}
        export([make_sample(0, TARGETS[format])], tmp_path, format=format, card=card)
        assert json.loads((tmp_path / "card.json").read_text()) == card

    def test_an_image_of_one_pixel(self, tmp_path: Path, format: str) -> None:
        box, one = np.array([[0, 0, 1, 1]], np.float32), np.ones((1, 1, 1), np.bool_)
        targets = {"imagefolder": ClassLabel(7), "masks": make_semantic([[7]])}
        target = targets.get(format, Instances(np.array([7]), box, one))
        report = export([make_sample(0, target, size_hw=(1, 1))], tmp_path, format=format)
        assert (report.num_written, report.num_left_out) == (1, 0)

    def test_no_samples_are_an_empty_data_set(
        self, tmp_path: Path, format: str, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.WARNING, "synthloader"):
            report = export([], tmp_path, format=format)
        assert (report.num_written, report.num_left_out) == (0, 0)
        assert caplog.messages == [f"{tmp_path}: no sample was written, the data set is empty."]
        assert (tmp_path / "export.json").exists()

    @pytest.mark.parametrize("kind", FORMATS_OF)
    def test_targets_of_another_kind_are_refused(self, tmp_path: Path, format: str, kind: str) -> None:
        given: dict[str, Target | None] = {type(target).__name__: target for target in TARGETS.values()}
        samples = [make_sample(0, TARGETS[format]), make_sample(1, {**given, "NoneType": None}[kind])]
        if f"'{format}'" in FORMATS_OF[kind]:
            assert export(samples, tmp_path, format=format).num_written == 2
            return
        with pytest.raises(ValueError) as caught:
            export(samples, tmp_path / "out", format=format)
        given = "unlabelled images" if kind == "NoneType" else kind
        assert str(caught.value) == f"format must hold {given}, got format={format!r}. {FORMATS_OF[kind]}"
        assert caught.value.__notes__ == [f"while exporting sample {make_name(1)!r} as {format!r}"]
        assert not (tmp_path / "out").exists()

    def test_a_class_without_a_name_is_refused(self, tmp_path: Path, format: str) -> None:
        with pytest.raises(ValueError) as caught:
            export([make_sample(0, TARGETS[format])], tmp_path / "out", format=format, class_names={2: "fig"})
        assert str(caught.value) == (
            f"class_names must have a name for class 7, which occurs in sample {make_name(0)!r}, got "
            "class_names={2: 'fig'}. Add class_names[7]."
        )
        assert not (tmp_path / "out").exists()

    def test_samples_are_held_one_at_a_time(self, tmp_path: Path, format: str) -> None:
        alive: list[Any] = []

        def count() -> Any:
            for number in range(6):
                sample = make_sample(number, TARGETS[format])
                alive.append(weakref.ref(sample.image))
                yield make_name(number), sample
                del sample
                assert sum(reference() is not None for reference in alive) <= 1

        export_samples(count(), tmp_path, format=format, class_names=CLASS_NAMES)


class TestNames:
    @pytest.mark.parametrize("name", ["../../x", "a/b.jpg", "", "ü", "a.b", "-rf", "x" * 200, "\udcff", "a\0b"])
    def test_unsafe_names_are_hashed(self, tmp_path: Path, name: str) -> None:
        export_samples([(name, make_sample(0, ClassLabel(7)))], tmp_path, format="webdataset", class_names=CLASS_NAMES)
        (line,) = list_lines(tmp_path)
        assert line["name"] == name
        stem = line["member"].removesuffix(".png")
        assert len(stem) == 32
        assert set(stem) <= set("0123456789abcdef")

    def test_the_source_is_never_the_name(self, tmp_path: Path) -> None:
        export([make_sample(0, make_instances())], tmp_path, format="coco")
        assert [file for file in read_tree(tmp_path) if file.endswith(".png")] == [f"images/{make_name(0)}.png"]

    def test_a_name_that_occurs_twice_is_refused(self, tmp_path: Path) -> None:
        sample = make_sample(0, make_instances())
        with pytest.raises(ValueError) as caught:
            export_samples([("0a", sample), ("0a", sample)], tmp_path / "out", format="coco", class_names=CLASS_NAMES)
        assert str(caught.value) == (
            "the name of samples[1] must be of one sample only, got the name of samples[1]='0a'. Give every sample its "
            "own name."
        )
        assert not (tmp_path / "out").exists()


class TestArguments:
    @pytest.mark.parametrize(
        ("options", "error", "message"),
        [
            (
                {"format": "cocoo"},
                ValueError,
                "format must be one of 'coco', 'yolo-detect', 'yolo-segment', 'voc', 'imagefolder', 'masks', "
                "'webdataset', got format='cocoo'. Did you mean 'coco'?",
            ),
            ({"image_format": "bmp"}, ValueError, "image_format must be one of 'png', 'jpeg', got image_format='bmp'."),
            ({"force": 1}, TypeError, "force must be a bool, got force=1."),
            (
                {"class_names": ["a"]},
                TypeError,
                "class_names must be a Mapping, got class_names=['a']. Give a dict of class id to name.",
            ),
            (
                {"class_names": {"1": "a"}},
                TypeError,
                "a class id of class_names must be an integer, got a class id of class_names='1'.",
            ),
            ({"class_names": {1: 5}}, TypeError, "class_names[1] must be a str, got class_names[1]=5."),
            (
                {"class_names": {1: "a", 2: "a"}},
                ValueError,
                "class_names[2] must be of one class only, but is that of class 1 too, got class_names[2]='a'. Rename "
                "one of them: readers would take them for one class.",
            ),
            ({"card": [1]}, TypeError, "card must be a Mapping, got card=[1]. Give a dict."),
            (
                {"card": {"a": float("nan")}},
                ValueError,
                "card must hold what JSON holds (Out of range float values are not JSON compliant: nan), got "
                "card={'a': nan}. Turn it into numbers, strings, lists and dicts.",
            ),
        ],
    )
    def test_wrong_ones(self, tmp_path: Path, options: dict[str, Any], error: type[Exception], message: str) -> None:
        given = {"format": "coco", "class_names": CLASS_NAMES, **options}
        with pytest.raises(error) as caught:
            export_samples([], tmp_path / "out", **given)
        assert str(caught.value).replace("compliant)", "compliant: nan)") == message
        assert not (tmp_path / "out").exists()

    @pytest.mark.parametrize(
        ("entry", "message"),
        [
            (5, "samples[0] must be a pair of name and sample, got samples[0]=5."),
            ((b"a", 5), "the name of samples[0] must be a str, got the name of samples[0]=b'a'."),
            (("a", 5), "the sample of samples[0] must be a Sample, got the sample of samples[0]=5."),
        ],
    )
    def test_wrong_entries(self, tmp_path: Path, entry: Any, message: str) -> None:
        with pytest.raises(TypeError) as caught:
            export_samples([entry], tmp_path / "out", format="coco", class_names=CLASS_NAMES)
        assert str(caught.value) == message

    def test_ids_may_be_numbers_of_numpy(self, tmp_path: Path) -> None:
        names = {np.int64(7): "a", np.int64(2): "b"}
        assert export([make_sample(0, make_instances())], tmp_path, format="yolo-detect", class_names=names).num_written


def test_an_image_that_jpeg_cannot_hold(tmp_path: Path) -> None:
    with pytest.raises(ValueError) as caught:
        export([make_sample(0, None, size_hw=(1, 70000))], tmp_path / "out", format="webdataset", image_format="jpeg")
    assert str(caught.value) == (
        "the image must have a size that .jpg files can hold, got the image=(1, 70000, 3). Choose image_format='png'."
    )
    assert caught.value.__notes__ == [f"while exporting sample {make_name(0)!r} as 'webdataset'"]
    assert not (tmp_path / "out").exists()


class TestReport:
    def test_what_is_left_out_is_said(self, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
        crowd = make_instances(crowd=np.array([False, True]))
        thin = make_instances(boxes=np.array([[0, 0, 0, 1], [0, 0, 2, 2]], np.float32))
        targets = [crowd, make_no_instances(), thin, crowd]
        with caplog.at_level(logging.WARNING, "synthloader"):
            report = export([make_sample(0, target) for target in targets], tmp_path, format="yolo-detect")
        assert report == ExportReport(tmp_path, "yolo-detect", 1, Counter({"crowd region": 2, "box without area": 1}))
        assert caplog.messages == [
            f"{tmp_path}: 3 of 4 samples were left out, which 'yolo-detect' cannot hold: box without area (1), crowd "
            "region (2)."
        ]
        assert json.loads(json.dumps(report.to_dict())) == {
            "folder": str(tmp_path),
            "format": "yolo-detect",
            "num_written": 1,
            "num_left_out": 3,
            "left_out": {"box without area": 1, "crowd region": 2},
        }
        manifest = json.loads((tmp_path / "export.json").read_text())
        assert manifest["left_out"] == {"box without area": 1, "crowd region": 2}


class TestOrigin:
    def test_fields_of_every_plain_kind(self) -> None:
        @dataclasses.dataclass(frozen=True)
        class Later(Origin):
            license: str | None = None
            weights: tuple[Path, ...] = ()
            class_names: Any = None

        origin = Later(
            source="ü\udcff", scores={"a": float("inf"), "b": np.float32(0.5)}, license="MIT",
            weights=(Path("w.pt"),), class_names={np.int64(3): "c", 4: {"x", "w"}},
        )  # fmt: skip
        told = describe_origin(origin)
        assert told["scores"] == {"a": None, "b": 0.5}
        assert told["weights"] == ["w.pt"]
        assert told["class_names"] == {"3": "c", "4": ["w", "x"]}
        assert told["license"] == "MIT"
        assert told["prompt"] is None
        assert json.loads(json.dumps(told))["source"] == "ü\udcff"


def test_real_and_generated_samples_may_stand_side_by_side(tmp_path: Path) -> None:
    samples = name_samples([Sample(make_image(0), make_instances()), make_sample(1, make_instances())])
    assert export_samples(iter(samples), str(tmp_path), format="coco", class_names=CLASS_NAMES).num_written == 2
