"""Whether a network can tell images that went through a codec of the cache from those that did not.

`python -m benchmarks.codec_signature [--quick] [--seed 0]`. In training, real images come from their files and
generated ones from the cache. A pass that only the latter receive is a signature: a network can learn it in place of
the task. So for every codec a small forensic network (`_signature_network.py`) is trained to tell patches of originals
from the same patches of their cached copies, on half of the images, and tested on the other half.

What a codec does to an image depends on what was done to it before:

* sets: `bccd` (photographs, JPEG of quality 75, 4:2:0), `fruit` (photographs, JPEG of quality 95, 4:2:0: the very
  tables and subsampling of codec `jpeg`), `nuclei` (PNG; two thirds are grey, and there `jpeg` and `jpeg-444` are the
  same), and `all` of them with one network. Without the shared data: `drawn` images.
* history: `as decoded`: the file's own pixels, still on the 8x8 grid of its JPEG, as where a generator changes a part
  of an image. `fresh`: shrunk to 0.6 before anything else, which takes away the grid and the coarse chroma: pixels
  that no JPEG has seen in this form, as where a generator makes the whole image.
* view: `plain`: patches at multiples of 16 pixels, the easiest case. `resized, flipped`: original and copy both shrunk
  to 0.75 (bilinear with antialiasing, as in training pipelines), and flipped at random.

The area under the ROC curve (AUC) is the chance that a copy scores above an original. Its 95 % interval is a bootstrap
over held-out images; originals and copies are tested at places of their own, so that identical copies give what chance
gives, and not 0.5 by construction. **Near chance**: the upper end of the interval is below 0.55. The upper end and not
the lower, because a test too weak to see anything has a wide interval and must not acquit a codec; 0.55, because the
interval of a fair coin reaches 0.53 here, and of dozens of rows some are unlucky. Else **told apart** where the
interval lies above 0.5, and **undecided** where it does not. A codec passes if it is near chance in every row.

Controls in the same run: the lossless codecs, whose copies are identical, must be near chance; copies by JPEG of
quality 75 must be told apart with an AUC of 0.75 or more. The grid of these is shifted by 4 pixels, since on its own
grid quality 75 hands the photographs of `bccd` back all but unchanged.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import simplejpeg
import torch
from PIL import Image
from torchvision.transforms.v2 import functional as transforms

from benchmarks._signature_network import score_patches, train_network
from benchmarks.harness import SHARED, print_table, write_results
from synthloader.cache.codecs import CODECS, decode_image, encode_image
from synthloader.seeds import make_rng

FILES = {
    "bccd": "bccd_blood_cells/JPEGImages/*.jpg",
    "fruit": "dried_fruit_instances/images/*.jpg",
    "nuclei": "nuclei_dsb2018/images/*.png",
}
HISTORIES = {"as decoded": 1.0, "fresh": 0.6}
VIEWS = {"plain": 1.0, "resized, flipped": 0.75}
CONTROL = "control: quality 75"

MAX_AUC_NEAR_CHANCE = 0.55
MIN_AUC_OF_CONTROL = 0.75
PATCH = 64


@dataclass(frozen=True)
class Effort:
    """How much is done per row."""

    max_images: int = 96
    num_steps: int = 80
    num_pairs: int = 16
    num_test_patches: int = 1500
    num_resamplings: int = 2000


QUICK = Effort(max_images=8, num_steps=12, num_pairs=8, num_test_patches=160, num_resamplings=200)


@dataclass(frozen=True)
class Detection:
    """How well copies were told from originals."""

    auc: float
    low: float
    high: float
    accuracy: float

    @property
    def verdict(self) -> str:
        """In words; `undecided` does not pass."""
        if self.high < MAX_AUC_NEAR_CHANCE:
            return "near chance"
        return "told apart" if self.low > 0.5 else "undecided"


def find_images(max_images: int, /, *, data: Path = SHARED / "data") -> dict[str, list[np.ndarray]]:
    """The sets by name, each evenly thinned to at most `max_images`; drawn ones where there is no shared data."""
    sets: dict[str, list[np.ndarray]] = {}
    for name, pattern in FILES.items():
        if files := sorted(data.glob(pattern)):
            picked = np.linspace(0, len(files) - 1, min(max_images, len(files))).round().astype(int)
            sets[name] = [np.array(Image.open(files[at]).convert("RGB")) for at in picked]
    if not sets:
        return {"drawn": [draw_image(make_rng(0, f"drawn/{at}", 0, 0)) for at in range(min(max_images, 24))]}
    return {**sets, "all": [image for images in sets.values() for image in images]}


def draw_image(rng: np.random.Generator, /) -> np.ndarray:
    """Soft colour with the noise of a sensor, (320, 320, 3)."""
    soft = cv2.resize(rng.uniform(40, 215, (8, 8, 3)), (320, 320), interpolation=cv2.INTER_CUBIC)
    return (soft + rng.normal(0, 4, soft.shape)).clip(0, 255).astype(np.uint8)


def resize_image(image: np.ndarray, scale: float, /) -> np.ndarray:
    """As training pipelines do: bilinear, antialiased, rounded to uint8."""
    if scale == 1.0:
        return image
    size_hw = [round(side * scale) for side in image.shape[:2]]
    resized = transforms.resize(torch.from_numpy(image).permute(2, 0, 1), size_hw, antialias=True)
    return np.ascontiguousarray(resized.permute(1, 2, 0).numpy())


def copy_image(image: np.ndarray, codec: str, /) -> np.ndarray:
    """What the cache gives back; or the control's copy."""
    if codec != CONTROL:
        return decode_image(*encode_image(image, codec))
    padded = np.pad(image, ((4, 0), (4, 0), (0, 0)), mode="edge")
    data = simplejpeg.encode_jpeg(padded, quality=75, colorspace="RGB", colorsubsampling="420", fastdct=False)
    decoded: np.ndarray = simplejpeg.decode_jpeg(data, fastdct=False, fastupsample=False)
    return decoded[4:, 4:]


def cut_patches(images: Sequence[np.ndarray], view: str, rng: np.random.Generator, /) -> np.ndarray:
    """A patch of each, at multiples of what 16 pixels have become: (N, 64, 64, C)."""
    step = round(16 * VIEWS[view])
    patches = []
    for image in images:
        top, left = (step * rng.integers((side - PATCH) // step + 1) for side in image.shape[:2])
        patch = image[top : top + PATCH, left : left + PATCH]
        patches.append(patch[:, ::-1] if view != "plain" and rng.integers(2) else patch)
    return np.stack(patches)


def detect(
    originals: Sequence[np.ndarray], copies: Sequence[np.ndarray], /, *, view: str, effort: Effort, name: str, seed: int
) -> Detection:
    """Train on one half of the images, test on the other; `name` and `seed` decide which, and everything drawn."""
    rngs = {stream: make_rng(seed, name, 0, 0, stream=stream) for stream in ("split", "train", "test", "bootstrap")}
    order = rngs["split"].permutation(len(originals))
    test, train = order[: len(order) // 2], order[len(order) // 2 :]
    # Original and copy in one array of six channels, so that whatever cuts a training patch cuts both.
    pairs = [
        np.concatenate([resize_image(image, VIEWS[view]) for image in pair], axis=2)
        for pair in zip(originals, copies, strict=True)
    ]

    def draw_pairs() -> tuple[np.ndarray, np.ndarray]:
        picked = rngs["train"].choice(train, effort.num_pairs)
        patches = cut_patches([pairs[at] for at in picked], view, rngs["train"])
        return patches[..., :3], patches[..., 3:]

    network = train_network(draw_pairs, generator=torch.Generator().manual_seed(seed), num_steps=effort.num_steps)
    repeats = -(-effort.num_test_patches // len(test))
    chosen = [pairs[at] for at in test for _ in range(repeats)]
    scores = [
        score_patches(network, cut_patches(chosen, view, rngs["test"])[..., channels]).reshape(len(test), repeats)
        for channels in (slice(0, 3), slice(3, 6))
    ]
    return summarize_scores(*scores, num_resamplings=effort.num_resamplings, rng=rngs["bootstrap"])


def summarize_scores(
    originals: np.ndarray, copies: np.ndarray, /, *, num_resamplings: int, rng: np.random.Generator
) -> Detection:
    """AUC with the interval of a bootstrap over images, and the balanced accuracy; (images, patches) logits each.

    Patches of one image resemble each other, so whole images are resampled. The share of patches of copy j that score
    above those of original i is computed once; an AUC is the mean of these shares, weighted by how often i and j came.
    """
    ranked = np.sort(originals, axis=1)
    shares = np.array(
        [[np.searchsorted(row, copies, side).mean(1) for row in ranked] for side in ("left", "right")]
    ).mean(0)
    shares /= originals.shape[1]
    counts = rng.multinomial(len(shares), np.full(len(shares), 1 / len(shares)), size=num_resamplings)
    low, high = np.quantile(np.einsum("ri,ij,rj->r", counts, shares, counts) / len(shares) ** 2, [0.025, 0.975])
    accuracy = ((originals <= 0).mean() + (copies > 0).mean()) / 2
    return Detection(float(shares.mean()), float(low), float(high), float(accuracy))


def measure_codecs(sets: dict[str, list[np.ndarray]], effort: Effort, /, *, seed: int) -> Iterator[dict[str, Any]]:
    """A row per codec, set, history and view."""
    for name, (history, scale) in product(sets, HISTORIES.items()):
        originals = [resize_image(image, scale) for image in sets[name]]
        known: dict[tuple[str, str], Detection] = {}
        for codec in (*CODECS, CONTROL):
            copies = [copy_image(image, codec) for image in originals]
            pixels = [np.array_equal(*pair) for pair in zip(originals, copies, strict=True)]
            for view in VIEWS:
                # Training is a function of the pixels: the second lossless codec would repeat the first, bit for bit.
                work = ("identical" if all(pixels) else codec, view)
                if work not in known:
                    known[work] = detect(originals, copies, view=view, effort=effort, name=name, seed=seed)
                found = known[work]
                yield {
                    "codec": codec,
                    "set": name,
                    "history": history,
                    "view": view,
                    "images": len(originals),
                    "identical": sum(pixels),
                    **{key: round(value, 4) for key, value in asdict(found).items()},
                    "verdict": found.verdict,
                }


def judge_codecs(rows: Sequence[dict[str, Any]], /) -> dict[str, str]:
    """Pass or fail per codec, and whether both controls did what they must."""
    verdicts = {}
    for codec in CODECS:
        mine = [row for row in rows if row["codec"] == codec]
        near = sum(row["verdict"] == "near chance" for row in mine)
        least, most = min(row["auc"] for row in mine), max(row["auc"] for row in mine)
        result = "pass" if near == len(mine) else "FAIL"
        verdicts[codec] = f"{result}: near chance in {near} of {len(mine)} rows, AUC {least:.2f} to {most:.2f}"
    least = min(row["auc"] for row in rows if row["codec"] == CONTROL)
    verdicts[CONTROL] = f"{'found' if least >= MIN_AUC_OF_CONTROL else 'NOT FOUND'}: AUC {least:.2f} or more"
    return verdicts


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="whether it runs at all; the numbers mean little")
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    torch.set_num_threads(1)
    cv2.setNumThreads(1)
    effort = QUICK if options.quick else Effort()
    start = time.perf_counter()
    rows = []
    for row in measure_codecs(find_images(effort.max_images), effort, seed=options.seed):
        rows.append(row)
        print(".", end="", flush=True)
    print()
    verdicts = judge_codecs(rows)
    notes = {"seed": options.seed, "effort": asdict(effort), "seconds": round(time.perf_counter() - start)}
    if options.quick:
        print_table(rows)
    else:
        path = write_results("codec_signature", rows, **notes, verdicts=verdicts)
        print(f"\nwritten to {path.relative_to(Path.cwd())}")
    print(f"\n{notes['seconds']} s", *(f"{codec}: {verdict}" for codec, verdict in verdicts.items()), sep="\n")


if __name__ == "__main__":
    main()
