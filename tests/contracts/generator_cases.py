"""The generators that the contract is run on: every public one, in the ways that could matter to its labels."""

from __future__ import annotations

import atexit
import functools
import shutil
import tempfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from synthloader.generators.blend import Blend
from synthloader.generators.cached import Cached
from synthloader.generators.chain import Chain
from synthloader.generators.color_transfer import ColorTransfer
from synthloader.generators.copy_paste import CopyPaste
from synthloader.generators.fog import Fog
from synthloader.generators.fourier_domain_adaptation import FourierDomainAdaptation
from synthloader.generators.metadata_alignment import MetadataAlignment
from synthloader.generators.night import Night
from synthloader.generators.one_of import OneOf
from synthloader.generators.pasting.blending import MARGINS
from synthloader.generators.rain import Rain
from synthloader.generators.snow import Snow
from synthloader.generators.sometimes import Sometimes
from synthloader.generators.tile import Tile
from synthloader.sample import Sample
from synthloader.targets import Instances
from tests.contracts.generator_contract import Case
from tests.generators.pictures import make_classified, make_flat, make_picture, make_texture

CUTOUTS = {f"{class_id}/{number}.png": class_id for class_id in (1, 2, 3, 4) for number in (0, 1)}
"""Names and classes of the cut-outs in `make_cutouts`."""

COLORS = ((250, 160, 200), (160, 250, 200), (200, 160, 250), (250, 250, 160))
"""Colour of the objects of classes 1 to 4 in cut-outs and flat pictures: all bright."""

SAME_SIZE: dict[str, Any] = {"scale_range": (1, 1), "rotation_range": (0, 0)}
"""With these options CopyPaste pastes pixels of the donor as they are."""


@functools.cache
def make_cutouts() -> Path:
    """A folder of RGBA files, two of each class."""
    folder = Path(tempfile.mkdtemp(prefix="cutouts"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    for name, class_id in CUTOUTS.items():
        color = COLORS[class_id - 1]
        flat: Any = make_flat(class_id + 4 * int(name[-5]), color, around=color, kind=Instances)
        rgba = np.dstack([flat.image[..., ::-1], flat.target.masks[0] * np.uint8(255)])
        (folder / name).parent.mkdir(exist_ok=True)
        cv2.imwrite(str(folder / name), np.ascontiguousarray(rgba))
    return folder


@functools.cache
def make_backgrounds(*, labelled: bool) -> list[Sample]:
    """Three pictures whose blue no other picture has; labelled ones show objects of class 9, which nobody pastes."""
    made = []
    for seed, size_hw in enumerate(((40, 56), (64, 90), (40, 56))):
        picture: Any = make_picture(5, seed=seed, size_hw=size_hw, share_crowd=0)
        image = make_texture(seed, size_hw, (0, 255))
        image[..., 2] = 250
        target = picture.target.replace(class_ids=np.full(len(picture.target), 9, np.int64)) if labelled else None
        made.append(Sample(image, target))
    return made


def make_dark_backgrounds() -> list[Sample]:
    """Pictures on which everything that is pasted is brighter."""
    return [Sample(make_texture(seed, (60, 80 + 20 * seed), (0, 60))) for seed in range(2)]


def find_nothing(image: np.ndarray) -> list[int]:
    """A detector that sees no object."""
    return []


def find_depth(image: np.ndarray) -> np.ndarray:
    """A detector of depth: the lower in the picture, the nearer."""
    return np.ascontiguousarray(np.broadcast_to(np.linspace(90, 5, image.shape[0])[:, None], image.shape[:2]))


def make_aligned(**options: Any) -> MetadataAlignment:
    """CopyPaste with a small grid and few probes, so that the search is short."""
    areas = {"box_area": {"scale_range": [(0.5, 0.6), (1.0, 1.2)]}}
    given = {
        "attributes": ["box_area"],
        "parameters": areas,
        "num_probes": 2,
        "num_references": 8,
        "max_components": 2,
        **options,
    }
    return MetadataAlignment(given.pop("generator", CopyPaste()), **given)


def make_two(name: str, **options: Any) -> Any:
    """A chain of two pastes, or a generator around one, of the donors' own pixels."""
    paste = CopyPaste(**SAME_SIZE, flip=False, **options)
    return Chain([paste, paste]) if name == "Chain" else {"Sometimes": Sometimes, "Cached": Cached}[name](paste)


PASTING = {
    "CopyPaste": Case(
        CopyPaste,
        pastes=True,
        inert=frozenset({"allow_blank_backgrounds", "detector"}),  # the first needs backgrounds= too: see `changes`
        changes=[
            lambda: CopyPaste(num_range=(1, 4)),
            lambda: CopyPaste(num_range=(2, 3)),
            lambda: CopyPaste(scale_range=(0.8, 1.3)),
            lambda: CopyPaste(scale_range=(0.7, 1.25)),
            lambda: CopyPaste(rotation_range=(-9, 10)),
            lambda: CopyPaste(rotation_range=(-10, 9)),
            lambda: CopyPaste(flip=False),
            lambda: CopyPaste(placement="non_overlapping"),
            lambda: CopyPaste(placement="measured"),
            lambda: CopyPaste(blend="gaussian"),
            lambda: CopyPaste(blend="poisson"),
            lambda: CopyPaste(blend="multiband"),
            lambda: CopyPaste(min_visible=0.3),
            lambda: CopyPaste(classes=[1]),
            lambda: CopyPaste(classes=["date"]),
            lambda: CopyPaste(max_tries=11),
            lambda: CopyPaste(cutouts=make_cutouts()),
            lambda: CopyPaste(cutouts={1: [make_cutouts() / "1/0.png"]}),
            lambda: CopyPaste(backgrounds=make_backgrounds(labelled=False)),
            lambda: CopyPaste(backgrounds=make_backgrounds(labelled=True)[:1]),
            lambda: CopyPaste(backgrounds=make_backgrounds(labelled=False), allow_blank_backgrounds=True),
            lambda: CopyPaste(elastic_range=(0, 0.2)),
            lambda: CopyPaste(elastic_range=(0.1, 0.2)),
            lambda: CopyPaste(bottom_range=(0.5, 1)),
            lambda: CopyPaste(bottom_range=(0.4, 1)),
            lambda: CopyPaste().keep_single_polygons(),
            lambda: CopyPaste().aim(1),
            lambda: CopyPaste().aim(2),
        ],
    ),
    "CopyPaste, exact": Case(lambda: CopyPaste(num_range=(1, 5), **SAME_SIZE, flip=False), pastes=True, exact=True),
    "CopyPaste, exact, mirrored": Case(lambda: CopyPaste(num_range=(2, 5), **SAME_SIZE), pastes=True, exact=True),
    "CopyPaste, everything may be covered": Case(
        lambda: CopyPaste(num_range=(3, 8), **SAME_SIZE, min_visible=0.0), pastes=True, exact=True, min_visible=0.0
    ),
    "CopyPaste, nothing may be covered": Case(lambda: CopyPaste(min_visible=1.0), pastes=True, min_visible=1.0),
    "CopyPaste, strong scales": Case(
        lambda: CopyPaste(num_range=(3, 3), scale_range=(0.05, 8), rotation_range=(-180, 180)), pastes=True
    ),
    "CopyPaste, apart": Case(
        lambda: CopyPaste(num_range=(2, 4), placement="non_overlapping", **SAME_SIZE),
        pastes=True,
        exact=True,
        apart=True,
    ),
    "CopyPaste, measured": Case(lambda: CopyPaste(num_range=(2, 3), placement="measured"), pastes=True),
    "CopyPaste, gaussian": Case(lambda: CopyPaste(num_range=(2, 3), blend="gaussian"), pastes=True),
    "CopyPaste, poisson": Case(lambda: CopyPaste(num_range=(2, 3), blend="poisson"), pastes=True, opaque=False),
    "CopyPaste, multiband": Case(
        lambda: CopyPaste(num_range=(2, 3), blend="multiband"),
        pastes=True,
        opaque=False,
        margin=MARGINS["multiband"],
    ),
    "CopyPaste, bent": Case(lambda: CopyPaste(elastic_range=(0.1, 0.4), bottom_range=(0.3, 1)), pastes=True),
    "CopyPaste, single polygons": Case(
        lambda: CopyPaste(num_range=(2, 4), **SAME_SIZE).keep_single_polygons(), pastes=True, exact=True, single=True
    ),
    "CopyPaste, one class": Case(lambda: CopyPaste(**SAME_SIZE, classes=[1, 2]).aim(2), pastes=True, exact=True),
    "CopyPaste, cut-outs": Case(
        lambda: CopyPaste(num_range=(1, 3), cutouts=make_cutouts()), pastes=True, cutouts=CUTOUTS
    ),
    "CopyPaste, backgrounds": Case(
        lambda: CopyPaste(
            num_range=(1, 3), **SAME_SIZE, backgrounds=make_backgrounds(labelled=False), detector=find_nothing
        ),
        pastes=True,
        exact=True,
        backgrounds=make_backgrounds(labelled=False),
    ),
    "CopyPaste, labelled backgrounds": Case(
        lambda: CopyPaste(num_range=(1, 3), **SAME_SIZE, backgrounds=make_backgrounds(labelled=True)),
        pastes=True,
        exact=True,
        backgrounds=make_backgrounds(labelled=True),
    ),
    "Chain": Case(
        lambda: Chain([CopyPaste(), ColorTransfer()]),
        pastes=True,
        covers_all=True,
        opaque=False,
        changes=[
            lambda: Chain([CopyPaste()]),
            lambda: Chain([ColorTransfer(), CopyPaste()]),
            lambda: Chain([CopyPaste(), CopyPaste()]),
            lambda: Chain([CopyPaste(flip=False), ColorTransfer()]),
            lambda: Chain([Cached(CopyPaste()), ColorTransfer()]),
        ],
    ),
    "Chain, two pastes": Case(lambda: make_two("Chain"), pastes=True, exact=True, twice=True),
    "OneOf": Case(
        lambda: OneOf({0.7: CopyPaste(), 0.3: ColorTransfer()}),
        pastes=None,
        changes=[
            lambda: OneOf({0.6: CopyPaste(), 0.4: ColorTransfer()}),
            lambda: OneOf({0.7: ColorTransfer(), 0.3: CopyPaste()}),
            lambda: OneOf({0.7: CopyPaste(flip=False), 0.3: ColorTransfer()}),
        ],
    ),
    "Sometimes": Case(
        lambda: make_two("Sometimes"),
        pastes=True,
        exact=True,
        changes=[
            lambda: Sometimes(CopyPaste(flip=False)),
            lambda: Sometimes(CopyPaste(**SAME_SIZE, flip=False), probability=0.6),
        ],
    ),
    "Cached": Case(
        lambda: make_two("Cached"),
        pastes=True,
        exact=True,
        changes=[lambda: Cached(CopyPaste()), lambda: Cached(CopyPaste(flip=False))],
    ),
    "MetadataAlignment": Case(
        make_aligned,
        pastes=None,
        changes=[
            lambda: make_aligned(generator=CopyPaste(flip=False)),
            lambda: make_aligned(reference=[make_picture(1)]),
            lambda: make_aligned(reference=[make_picture(2)]),
            lambda: make_aligned(attributes=["box_area", "box_bottom"]),
            lambda: make_aligned(parameters={"box_area": {"scale_range": [(0.5, 0.6)]}}),
            lambda: make_aligned(num_probes=3),
            lambda: make_aligned(num_references=7),
            lambda: make_aligned(max_components=1),
            lambda: make_aligned(min_silhouette=0.8),
            lambda: make_aligned().aim(1),
        ],
    ),
}

APPEARANCE = {
    "ColorTransfer": Case(
        ColorTransfer,
        changes=[
            lambda: ColorTransfer(references=[make_classified(1)]),
            lambda: ColorTransfer(references=[make_classified(2)]),
            lambda: ColorTransfer(references=[make_classified(1), make_classified(2)]),
            lambda: ColorTransfer(method="histogram"),
        ],
    ),
    "ColorTransfer, references": Case(lambda: ColorTransfer(references=[make_classified(4), make_classified(5)])),
    "ColorTransfer, histogram": Case(lambda: ColorTransfer(method="histogram")),
    "FourierDomainAdaptation": Case(
        FourierDomainAdaptation,
        changes=[
            lambda: FourierDomainAdaptation(references=[make_classified(1)]),
            lambda: FourierDomainAdaptation(references=[make_classified(2)]),
            lambda: FourierDomainAdaptation(beta_range=(0, 0.02)),
            lambda: FourierDomainAdaptation(beta_range=(0.001, 0.002)),
        ],
    ),
    "FourierDomainAdaptation, strong": Case(lambda: FourierDomainAdaptation(beta_range=(0.05, 0.1))),
    "Blend": Case(
        lambda: Blend(ColorTransfer()),
        changes=[
            lambda: Blend(ColorTransfer(method="histogram")),
            lambda: Blend(ColorTransfer(), delta=(0.3, 0.6)),
            lambda: Blend(ColorTransfer(), delta=(0.2, 0.7)),
            lambda: Blend(ColorTransfer(), delta=0.5),
            lambda: Blend(ColorTransfer(), object_delta=0.2),
            lambda: Blend(ColorTransfer(), object_delta=0.3),
        ],
    ),
    "Blend, objects apart": Case(lambda: Blend(Night(), object_delta=(0, 0.2))),
    "Fog": Case(
        Fog,
        changes=[
            lambda: Fog(strength_range=(0.2, 0.6)),
            lambda: Fog(visibility_range=(50, 200)),
            lambda: Fog(airlight=(200, 200, 200)),
            lambda: Fog(airlight_range=(0.7, 0.95)),
            lambda: Fog(horizon_range=(0.3, 0.4)),
            lambda: Fog(camera_height_range=(2, 9)),
            lambda: Fog(max_distance_m=70),
            lambda: Fog(patchiness_range=(0, 0.2)),
            lambda: Fog(min_transmission=0.2),
            lambda: Fog(depth=find_depth),
            lambda: Fog(depth_map="depth"),
            lambda: Fog(depth_kind="inverse"),
            lambda: Fog(depth_scale=2),
            lambda: Fog(distance_range=(3, 140)),
        ],
    ),
    "Fog, depth": Case(lambda: Fog(visibility_range=(60, 200), depth=find_depth)),
    "Rain": Case(
        Rain,
        changes=[
            lambda: Rain(strength_range=(0.2, 0.5)),
            lambda: Rain(rain_rate_range=(5, 20)),
            lambda: Rain(exposure_range=(0.01, 0.02)),
            lambda: Rain(angle_range=(-15, 10)),
            lambda: Rain(opacity_range=(0.4, 0.8)),
            lambda: Rain(defocus_range=(0.001, 0.003)),
            lambda: Rain(dimming_range=(0.1, 0.3)),
        ],
    ),
    "Snow": Case(
        Snow,
        changes=[
            lambda: Snow(strength_range=(0.2, 0.5)),
            lambda: Snow(visibility_range=(500, 900)),
            lambda: Snow(flake_size_range=(5, 14)),
            lambda: Snow(fall_speed=1.3),
            lambda: Snow(exposure_range=(0.004, 0.015)),
            lambda: Snow(angle_range=(-35, 30)),
            lambda: Snow(defocus_range=(0.002, 0.005)),
            lambda: Snow(dimming_range=(0.1, 0.2)),
        ],
    ),
    "Night": Case(
        Night,
        changes=[
            lambda: Night(strength_range=(0.3, 0.5)),
            lambda: Night(stops_range=(1, 2)),
            lambda: Night(blue_range=(0.3, 0.6)),
            lambda: Night(electrons_range=(400, 1000)),
            lambda: Night(read_noise_range=(1, 3)),
            lambda: Night(glow_range=(0.2, 0.5)),
            lambda: Night(sky_range=(0.5, 0.7)),
            lambda: Night(vignetting=0.3),
        ],
    ),
    "Chain, appearance": Case(lambda: Chain([Fog(), Sometimes(Rain(), probability=0.5)])),
}

TILING = {
    "Tile": Case(
        lambda: Tile(size_hw=(24, 32)),
        tiles=True,
        changes=[
            Tile,
            lambda: Tile(size_hw=(32, 24)),
            lambda: Tile(size_hw=(24, 32), centred=True),
            lambda: Tile(size_hw=(24, 32), object_range=(0.4, 0.9)),
            lambda: Tile(size_hw=(24, 32), object_range=(0.3, 0.8)),
            lambda: Tile(size_hw=(24, 32), max_zoom=3),
            lambda: Tile(size_hw=(24, 32), classes=[1]),
            lambda: Tile(size_hw=(24, 32), classes=["date"]),
            lambda: Tile(size_hw=(24, 32), min_visible=0.3),
            lambda: Tile(size_hw=(24, 32), min_side=6),
            lambda: Tile(size_hw=(24, 32), min_area=11),
            lambda: Tile(size_hw=(24, 32), drop="instances"),
            lambda: Tile(size_hw=(24, 32), keep_empty=True),
            lambda: Tile(size_hw=(24, 32), max_tries=21),
            lambda: Tile(size_hw=(24, 32)).aim(1),
            lambda: Tile(size_hw=(24, 32)).aim(2),
            lambda: Tile(size_hw=(24, 32)).keep_single_polygons(),
        ],
    ),
    "Tile, close-ups": Case(lambda: Tile(size_hw=(32, 40), centred=True, drop="instances"), tiles=True),
    "Tile, instances dropped": Case(
        lambda: Tile(size_hw=(16, 20), drop="instances", keep_empty=True), tiles=True, min_visible=0.2
    ),
}

CASES = {**PASTING, **APPEARANCE, **TILING}

FLAT: dict[str, Case] = {
    name: replace(case, exact=False)
    for name, case in PASTING.items()
    if case.opaque and case.pastes and not case.backgrounds
} | {
    "CopyPaste, cut-outs on backgrounds": Case(
        lambda: CopyPaste(cutouts=make_cutouts(), backgrounds=make_dark_backgrounds(), blend="gaussian"),
        pastes=True,
        cutouts=CUTOUTS,
        backgrounds=make_dark_backgrounds(),
    ),
    "CopyPaste, cut-outs of many sizes": Case(
        lambda: CopyPaste(cutouts=make_cutouts(), scale_range=(0.02, 1), rotation_range=(-90, 90)),
        pastes=True,
        cutouts=CUTOUTS,
    ),
    "CopyPaste, on dark backgrounds": Case(
        lambda: CopyPaste(backgrounds=make_dark_backgrounds(), elastic_range=(0.2, 0.5)),
        pastes=True,
        backgrounds=make_dark_backgrounds(),
    ),
}
"""Pasting generators of which every pasted pixel is brighter than what was there, where that was dark."""
