from __future__ import annotations

import gc
import io
import json
import tarfile
from pathlib import Path
from typing import Any

import numpy as np
import PIL.Image
import pytest
from pycocotools import mask as coco_mask

from synthloader.exports import webdataset
from synthloader.sample import Sample
from synthloader.targets import ClassLabel, Instances
from tests.exports.samples import export, make_instances, make_name, make_no_instances, make_sample, make_semantic


def make_samples() -> list[Sample]:
    points = np.array([[[1.5, 2, 2]], [[3, 4, 0]]], np.float32)
    return [
        make_sample(0, make_instances(keypoints=points, crowd=np.array([False, True])), metadata={"weather": "fog"}),
        make_sample(1, ClassLabel(7)),
        make_sample(2, make_semantic([[0, 2], [255, 7]]), size_hw=(2, 2)),
        make_sample(3, None),
        make_sample(4, make_no_instances(with_masks=False)),
    ]


def read_shard(path: Path) -> dict[str, dict[str, bytes]]:
    """Name to suffix to content."""
    found: dict[str, dict[str, bytes]] = {}
    with tarfile.open(path) as tar:
        for member in tar:
            assert (member.mtime, member.uid, member.gid, member.uname, member.gname) == (0, 0, 0, "", "")
            name, _, suffix = member.name.partition(".")
            stream = tar.extractfile(member)
            assert stream is not None
            found.setdefault(name, {})[suffix] = stream.read()
    return found


def decode(content: bytes) -> np.ndarray:
    with PIL.Image.open(io.BytesIO(content)) as image:
        return np.array(image)


def test_everything_is_there(tmp_path: Path) -> None:
    export(make_samples(), tmp_path, format="webdataset")
    shard = read_shard(tmp_path / "000000.tar")
    assert list(shard) == [make_name(number) for number in range(5)]
    for sample, members in zip(make_samples(), shard.values(), strict=True):
        np.testing.assert_array_equal(decode(members["png"]), sample.image)
    told: list[dict[str, Any]] = [json.loads(members["json"]) for members in shard.values()]
    assert [content["name"] for content in told] == list(shard)
    assert told[0]["size_hw"] == [24, 32]
    assert told[0]["class_names"] == {"2": "fig & date", "7": "Größe", "40": "a: yes"}
    assert told[0]["metadata"] == {"weather": "fog"}
    assert told[0]["origin"]["source"] == "real/0.jpg"
    assert [content["target"] for content in told[1:]] == [
        {"kind": "class_label", "class_id": 7, "class_name": "Größe"},
        {"kind": "semantic_mask", "ignore_index": 255},
        None,
        {"kind": "instances", "class_ids": [], "boxes": [], "crowd": [], "masks": None, "keypoints": None, "attributes": []},
    ]  # fmt: skip
    assert decode(shard[make_name(2)]["mask.png"]).tolist() == [[0, 2], [255, 7]]


def test_instances_are_exact(tmp_path: Path) -> None:
    samples = make_samples()[:1]
    export(samples, tmp_path, format="webdataset")
    target = json.loads(read_shard(tmp_path / "000000.tar")[make_name(0)]["json"])["target"]
    ours = samples[0].target
    assert isinstance(ours, Instances)
    np.testing.assert_array_equal(np.array(target["boxes"], np.float32), ours.boxes)
    assert target["class_ids"] == [7, 2]
    assert target["crowd"] == [False, True]
    assert target["keypoints"] == [[[1.5, 2, 2]], [[3, 4, 0]]]
    assert target["attributes"] == [{"occluded": True, "shade": 0.25}, {"occluded": False}]
    np.testing.assert_array_equal(np.array([coco_mask.decode(runs) for runs in target["masks"]], np.bool_), ours.masks)  # type: ignore[arg-type]


@pytest.mark.parametrize(("limit", "value"), [("MAX_SHARD_SAMPLES", 2), ("MAX_SHARD_BYTES", 6000)])
def test_shards_end_in_time(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, limit: str, value: int) -> None:
    monkeypatch.setattr(webdataset, limit, value)
    export([make_sample(number, ClassLabel(7)) for number in range(5)], tmp_path, format="webdataset")
    shards = sorted(tmp_path.glob("*.tar"))
    assert [shard.name for shard in shards] == ["000000.tar", "000001.tar", "000002.tar"]
    names = [name for shard in shards for name in read_shard(shard)]
    assert names == [make_name(number) for number in range(5)]
    lines = [json.loads(line) for line in (tmp_path / "provenance.jsonl").read_text().splitlines()]
    assert [line["file"] for line in lines] == ["000000.tar"] * 2 + ["000001.tar"] * 2 + ["000002.tar"]
    assert [line["member"] for line in lines] == [f"{make_name(number)}.png" for number in range(5)]


def test_no_samples_are_an_empty_shard(tmp_path: Path) -> None:
    export([], tmp_path, format="webdataset")
    assert read_shard(tmp_path / "000000.tar") == {}


# That package leaves a shard open, and draws.
@pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.uses_global_rng
def test_the_package_reads_it(tmp_path: Path) -> None:
    library = pytest.importorskip("webdataset", reason="Needs the package webdataset.")
    export(make_samples(), tmp_path, format="webdataset", image_format="jpeg")
    dataset = library.WebDataset(str(tmp_path / "000000.tar"), shardshuffle=False).decode("rgb8")
    found = list(dataset)
    del dataset
    gc.collect()
    assert [entry["__key__"] for entry in found] == [make_name(number) for number in range(5)]
    assert found[0]["jpg"].shape == (24, 32, 3)
    assert found[1]["json"]["target"]["class_id"] == 7
