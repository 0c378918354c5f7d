"""Images per second of a trainer's own loader, bare and with generated images from a filled cache.

`python -m benchmarks.trainer_throughput [--turns 9] [--images 192] [--workers 0,2] [--size 640]`.
Blood cells (BCCD, 640x480 JPEG) with boxes. Ultralytics: the training loader of `DetectionTrainer`, mosaic on, bare and
of `synth_trainer` at ratio 0, 0.5 and 1. torchvision: `CocoDetection` with v2 transforms (flip, resize), bare and under
`MixedDataset` at the same ratios. The cache holds every version as JPEG and is warm.

Contenders take turns; a turn is one epoch, timed per image that was loaded. Ultralytics' workers run ahead without end:
so all other loaders are stopped before a turn, and an epoch that is not timed is drawn first.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import shutil
import tempfile
from collections import defaultdict
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import torch
import yaml

from benchmarks.harness import SHARED, interleave, list_versions, make_parser, tabulate, write_results

RATIOS = (0.0, 0.5, 1.0)
BARE = "bare"


def main() -> None:
    """Measure each trainer with each number of workers."""
    parser = make_parser(__doc__, turns=9)
    parser.add_argument("--images", type=int, default=192, help="real images, at most 205")
    # Ultralytics keeps 8 batches decoded for mosaics: in a smaller set nothing real would be decoded a second time.
    parser.add_argument("--batch-size", type=int, default=8)
    parser.add_argument("--workers", default="0,2", help="numbers of workers, comma-separated")
    parser.add_argument("--size", type=int, default=640)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(0)  # as Ultralytics sets it
    rows = []
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        _go_offline(folder / "settings")
        data = write_blood_cells(folder / "cells", options.images)
        for trainer, make in (("ultralytics", make_ultralytics), ("torchvision", make_torchvision)):
            for workers in map(int, options.workers.split(",")):
                loaders = make(folder / trainer, data, workers, options)
                contenders = {name: partial(drain, loader) for name, loader in loaders.items()}
                timings = interleave(contenders, turns=options.turns, before=partial(settle, loaders))
                labels = {"trainer": trainer, "workers": str(workers)}
                made = tabulate(timings, timings[BARE], **labels)
                rows += [{**row, "images per s": 1e6 / row["us"]} for row in made]
                loaders.clear()
                contenders.clear()
                gc.collect()  # workers end with their loader
                print(f"done: {trainer}, {workers} workers", flush=True)
    path = write_results(
        "trainer_throughput",
        rows,
        folder=options.results,
        images=options.images,
        batch_size=options.batch_size,
        size=options.size,
        turns=options.turns,
        trainers=list_versions(["ultralytics", "torchvision"]),
    )
    print(f"written to {path}")


def drain(loader: Any) -> int:
    """Load one epoch; nobody may leave out an image."""
    loaded = sum(len(batch["img"]) if isinstance(batch, dict) else len(batch) for batch in loader)
    if loaded != len(loader.dataset):
        raise ValueError(f"{loaded} of {len(loader.dataset)} images were loaded")
    return loaded


def settle(loaders: Mapping[str, Any], name: str) -> None:
    """Stop what other loaders do ahead, and bring one to its pace."""
    for other, loader in loaders.items():
        if other != name and hasattr(loader, "reset"):
            loader.reset()
    drain(loaders[name])


def make_ultralytics(folder: Path, data: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """The training loaders of Ultralytics' trainer."""
    from ultralytics.models.yolo.detect import DetectionTrainer

    from synthloader import ColorTransfer, LMDBCache
    from synthloader.adapters.ultralytics import synth_trainer

    loaders: dict[str, Any] = {}
    for ratio in (None, *RATIOS):
        kind: Any = DetectionTrainer
        if ratio is not None:
            cache = LMDBCache(folder / "cache", codec="jpeg")
            kind = synth_trainer(kind, ratio=ratio, generator=ColorTransfer(), cache=cache, variants=1)
        overrides = {
            "model": "yolov8n.yaml",
            "data": str(data),
            "imgsz": options.size,
            "batch": options.batch_size,
            "device": "cpu",
            "amp": False,
            "project": str(folder / "runs"),
            "verbose": False,
        }
        trainer = kind(overrides=overrides)
        trainer.setup_model()
        trainer.args.workers = workers  # taken away on the CPU, where training is what takes long
        loader = trainer.get_dataloader(trainer.data["train"], options.batch_size, rank=-1, mode="train")
        loaders[BARE if ratio is None else f"synthloader, ratio {ratio:g}"] = loader
        mix = getattr(loader.dataset, "mix", None)
        if mix is not None:
            fill(mix.sets[0].dataset)
    return loaders


def make_torchvision(folder: Path, data: Path, workers: int, options: argparse.Namespace) -> dict[str, Any]:
    """The loaders of a detection script."""
    from torch.utils.data import DataLoader
    from torchvision.datasets import CocoDetection, wrap_dataset_for_transforms_v2
    from torchvision.transforms import v2

    from synthloader import ColorTransfer, EpochSampler, GeneratedDataset, LMDBCache, MixedDataset

    def open_real() -> Any:
        side = options.size
        steps = [
            v2.ToImage(),
            v2.RandomHorizontalFlip(),
            v2.Resize((side, side)),
            v2.ToDtype(torch.float32, scale=True),
        ]
        real = CocoDetection(str(data.parent / "images" / "train"), str(data.parent / "train.json"))
        real = CocoDetection(real.root, str(data.parent / "train.json"), transforms=v2.Compose(steps))
        return wrap_dataset_for_transforms_v2(real, target_keys=("boxes", "labels", "image_id"))

    make = partial(
        DataLoader,
        batch_size=options.batch_size,
        num_workers=workers,
        persistent_workers=workers > 0,
        collate_fn=_keep,
    )
    real = open_real()
    loaders: dict[str, Any] = {BARE: make(real, shuffle=True)}
    for ratio in RATIOS:
        real = open_real()
        generated = GeneratedDataset(real, ColorTransfer(), cache=LMDBCache(folder / "cache", codec="jpeg"), variants=1)
        fill(generated)
        train = MixedDataset(real, generated, ratio=ratio)
        sampler = EpochSampler(torch.utils.data.RandomSampler(train), train)
        loaders[f"synthloader, ratio {ratio:g}"] = make(train, sampler=sampler)
    return loaders


def fill(generated: Any) -> None:
    """Make every version, so that nothing is generated while time is taken."""
    from synthloader import precompute

    done = precompute(generated, progress=False)
    if done.accepted != done.total:
        raise ValueError(f"{done.accepted} of {done.total} versions could be made")


def write_blood_cells(folder: Path, count: int) -> Path:
    """Photographs of blood cells as a YOLO and a COCO data set; gives `data.yaml`."""
    source = SHARED / "data" / "bccd_blood_cells"
    content = json.loads((source / "coco" / "instances_train.json").read_text())
    records = content["images"][:count]
    if len(records) < count:
        raise ValueError(f"there are {len(records)} images, {count} were asked for")
    classes = {category["id"]: place for place, category in enumerate(content["categories"])}
    rows = defaultdict(list)
    for annotation in content["annotations"]:
        if min(annotation["bbox"][2:]) > 0:
            rows[annotation["image_id"]].append(annotation)
    for name in ("images/train", "labels/train"):
        (folder / name).mkdir(parents=True)
    for record in records:
        shutil.copy(source / "JPEGImages" / record["file_name"], folder / "images" / "train" / record["file_name"])
        lines = []
        for annotation in rows[record["id"]]:
            x, y, width, height = annotation["bbox"]
            size = [record["width"], record["height"]]
            box = [(x + width / 2) / size[0], (y + height / 2) / size[1], width / size[0], height / size[1]]
            lines.append(" ".join(map(str, [classes[annotation["category_id"]], *box])))
        (folder / "labels" / "train" / record["file_name"]).with_suffix(".txt").write_text("\n".join(lines))
    kept = {record["id"] for record in records}
    annotations = [annotation for image_id in sorted(kept) for annotation in rows[image_id]]
    (folder / "train.json").write_text(json.dumps({**content, "images": records, "annotations": annotations}))
    names = {place: category["name"] for place, category in enumerate(content["categories"])}
    file = folder / "data.yaml"
    file.write_text(
        yaml.safe_dump({"path": str(folder), "train": "images/train", "val": "images/train", "names": names})
    )
    return file


def _go_offline(settings: Path) -> None:
    """Keep Ultralytics from the network, and give it settings of its own."""
    import matplotlib

    font = Path(matplotlib.get_data_path()) / "fonts" / "ttf" / "DejaVuSans.ttf"
    for folder in (settings, settings / "Ultralytics"):
        folder.mkdir(parents=True, exist_ok=True)
        shutil.copy(font, folder / "Arial.ttf")
    os.environ |= {"YOLO_OFFLINE": "true", "YOLO_CONFIG_DIR": str(settings), "YOLO_VERBOSE": "false"}


def _keep(batch: list[Any]) -> list[Any]:
    return batch


if __name__ == "__main__":
    main()
