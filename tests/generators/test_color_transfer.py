from __future__ import annotations

import pickle
import re
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from synthloader.errors import NothingToGenerate
from synthloader.generators import ColorTransfer, color_transfer
from synthloader.sample import Sample
from synthloader.seeds import make_rng
from tests.contracts.generator_contract import Case, check_generator, check_sample
from tests.generators.pictures import ListPool, make_classified, make_grey, make_picture, make_segmented

METHODS = ("reinhard", "histogram")

CASES = {
    "ColorTransfer": Case(
        ColorTransfer,
        changes=[
            lambda: ColorTransfer(references=[make_classified(1)]),
            lambda: ColorTransfer(references=[make_classified(2)]),
            lambda: ColorTransfer(references=[make_classified(1), make_classified(2)]),
            lambda: ColorTransfer(method="histogram"),
        ],
    ),
    "ColorTransfer, histogram": Case(lambda: ColorTransfer(method="histogram")),
    "ColorTransfer, references": Case(
        lambda: ColorTransfer(references=[make_classified(4), make_classified(5)], method="histogram")
    ),
}


def make_noise(seed: int, mean: int = 128, spread: int = 20, size_hw: tuple[int, int] = (30, 40)) -> Sample:
    noise = np.random.default_rng(seed).normal([mean, mean + 10, mean - 10], spread, (*size_hw, 3))
    return Sample(np.clip(noise, 0, 255).astype(np.uint8))


def measure(sample: Sample) -> np.ndarray:
    lab = cv2.cvtColor(sample.image, cv2.COLOR_RGB2LAB).reshape(-1, 3)
    return np.stack([lab.mean(axis=0), lab.std(axis=0)])


def measure_shares(image: np.ndarray) -> np.ndarray:
    """(256, 3): the share of pixels at each level of each channel of YCrCb."""
    channels = cv2.cvtColor(image, cv2.COLOR_RGB2YCrCb).reshape(-1, 3)
    return np.stack([np.bincount(channel, minlength=256) for channel in channels.T], axis=1) / len(channels)


def generate(generator: Any, source: Sample, seed: int = 0) -> Sample:
    made = generator.generate(source, rng=make_rng(seed, "s", 0, 0))
    assert isinstance(made, Sample)
    return made


def write(folder: Path, *names: str) -> None:
    for at, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        cv2.imwrite(str(folder / name), make_noise(at, mean=60 + 40 * at).image[..., ::-1])


def test_a_histogram_transfer_reaches_the_references_distribution() -> None:
    """Kolmogorov's distance, in every channel of YCrCb: half of the source's largest level, and what 8 bits round."""
    source = Sample(cv2.GaussianBlur(make_noise(0, 110, 60, (200, 300)).image, (5, 5), 0))
    reference = make_noise(1, 140, 30, (150, 100))
    made = generate(ColorTransfer(references=[reference], method="histogram"), source)
    shares = [measure_shares(sample.image) for sample in (source, made, reference)]
    before, after = (np.abs(np.cumsum(share - shares[2], axis=0)).max(axis=0) for share in shares[:2])
    assert (before > 0.15).all()
    assert (after < shares[0].max(axis=0) / 2 + shares[2].max(axis=0)).all()


@pytest.mark.parametrize("size_hw", [(1, 1), (1, 70), (70, 1), (31, 43)])
@pytest.mark.parametrize("method", METHODS)
def test_strips_change_nothing(size_hw: tuple[int, int], method: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    generator, source = ColorTransfer(references=[make_noise(1)], method=method), make_noise(0, size_hw=size_hw)
    made = generate(generator, source).image
    monkeypatch.setattr(color_transfer, "STRIP_PIXELS", 100)
    assert np.array_equal(generate(generator, source).image, made)


def test_a_grey_histogram_transfer_is_exact_to_half_of_the_largest_level() -> None:
    source, reference = make_grey(make_noise(0, 90, 15)), make_grey(make_noise(1, 150, 40))
    made = generate(ColorTransfer(references=[reference], method="histogram"), source)
    before, after, wanted = (
        np.bincount(sample.image[..., 0].ravel(), minlength=256) / sample.image[..., 0].size
        for sample in (source, made, reference)
    )
    assert np.abs(np.cumsum(after - wanted)).max() <= before.max() / 2 + 1e-12


def test_a_flat_picture_takes_the_references_median() -> None:
    reference = make_grey(make_noise(1, 150, 40))
    flat = Sample(np.full((5, 6, 3), 90, np.uint8))
    made = generate(ColorTransfer(references=[reference], method="histogram"), flat)
    assert np.unique(made.image).tolist() == [
        np.sort(reference.image[..., 0].ravel())[reference.image[..., 0].size // 2]
    ]


def test_the_same_picture_at_another_size_is_passed_over() -> None:
    source = make_noise(0)
    twice = Sample(np.ascontiguousarray(np.repeat(source.image, 2, axis=0)))
    with pytest.raises(NothingToGenerate, match=r"^no other reference$"):
        generate(ColorTransfer(references=[twice], method="histogram"), source)


def test_what_would_change_no_pixel_is_not_generated() -> None:
    source = make_grey(make_noise(0))
    almost = source.image.copy()
    almost[0, 0] = almost[0, 0] ^ 1
    with pytest.raises(NothingToGenerate, match=r"^unchanged$"):
        generate(ColorTransfer(references=[Sample(almost)]), source)


@pytest.mark.parametrize("name", CASES)
@pytest.mark.parametrize("size_hw", [(1, 1), (1, 9), (40, 56)])
def test_the_label_contract(name: str, size_hw: tuple[int, int]) -> None:
    check_generator(CASES[name])
    pool = ListPool([make_picture(at, size_hw=(20, 30)) for at in range(2)])
    for source in (
        make_picture(3, size_hw=size_hw, num_keypoints=2, with_maps=True),
        make_segmented(4),
        make_classified(5),
    ):
        for each in (source, make_grey(source)):
            assert check_sample(CASES[name], pool, each, 0) is not None


def test_it_reaches_the_references_mean_and_deviation() -> None:
    source, reference = make_noise(0, 90, 15), make_noise(1, 150, 25)
    made = generate(ColorTransfer(references=[reference]), source)
    assert np.abs(measure(made) - measure(reference)).max() < 2
    assert np.abs(measure(source) - measure(reference)).max() > 20


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("source", [make_picture(3), make_classified(3), make_segmented(3), make_noise(3)])
def test_everything_but_the_image_is_the_same_object(source: Sample, method: Any) -> None:
    made = generate(ColorTransfer(references=[make_noise(1)], method=method), source)
    assert made.target is source.target
    assert made.metadata is source.metadata
    assert made.maps is source.maps
    assert made.origin is not None
    assert made.origin.edited is None
    assert made.origin.drawn == ("references[0]",)


@pytest.mark.parametrize("level", [0, 7, 128, 255])
def test_a_channel_that_does_not_vary_is_only_shifted(level: int) -> None:
    flat = Sample(np.full((5, 6, 3), level, np.uint8))
    made = generate(ColorTransfer(references=[make_grey(make_noise(1))]), flat)
    assert (made.image == made.image[0, 0]).all()
    almost = np.full((5, 6, 3), [level, 100, 50], np.uint8)
    made = generate(ColorTransfer(references=[make_noise(1)]), Sample(almost))
    assert (made.image == made.image[0, 0]).all()


def test_rounding_in_a_flat_picture_is_not_stretched_to_noise() -> None:
    flat = np.full((30, 40, 3), 90, np.uint8)
    flat[::7, ::7] = [91, 90, 90]
    made = generate(ColorTransfer(references=[make_noise(1, 128, 50)]), Sample(flat))
    assert np.ptp(made.image.astype(int), axis=(0, 1)).max() <= 6


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("reference", [make_noise(1), make_grey(make_noise(1, 200, 40))])
def test_a_one_channel_picture_stays_one_and_takes_the_lightness(reference: Sample, method: Any) -> None:
    source = make_grey(make_noise(0, 90, 15))
    made = generate(ColorTransfer(references=[reference], method=method), source)
    assert (made.image == made.image[..., :1]).all()
    assert np.abs(measure(made) - measure(reference))[:, 0].max() < 3


def test_a_grey_transfer_loses_no_level_to_rounding() -> None:
    ramp = Sample(np.repeat(np.arange(256, dtype=np.uint8)[None, :, None], 3, axis=2))
    almost_the_same = ramp.image.copy()
    almost_the_same[0, 100:240] += 1
    made = generate(ColorTransfer(references=[Sample(almost_the_same)]), ramp)
    assert np.abs(made.image.astype(int) - ramp.image).max() == 1


@pytest.mark.parametrize("method", METHODS)
def test_it_never_draws_the_source_itself_where_there_is_another(method: Any) -> None:
    pool = ListPool([make_noise(0), make_noise(1)])
    bound = ColorTransfer(method=method).bind(pool, classes=None)
    for seed in range(20):
        made = generate(bound, make_noise(0), seed)
        assert made.origin is not None
        assert made.origin.drawn == ("1.png",)


@pytest.mark.parametrize("pictures", [[], [make_noise(0)], [make_noise(0), make_noise(0)]])
@pytest.mark.parametrize("method", METHODS)
def test_nothing_is_generated_from_the_source_alone(pictures: list[Sample], method: Any) -> None:
    with pytest.raises(NothingToGenerate, match=r"^no other reference$"):
        generate(ColorTransfer(method=method).bind(ListPool(pictures), classes=None), make_noise(0))


def test_each_reference_is_decoded_once_in_a_process() -> None:
    pool = ListPool([make_noise(1), make_noise(2)])
    bound = ColorTransfer().bind(pool, classes=None)
    for seed in range(20):
        generate(bound, make_noise(0), seed)
    assert sorted(pool.decoded) == [0, 1]
    copied = pickle.loads(pickle.dumps(bound))
    generate(copied, make_noise(0))
    assert len(copied._references._references.pool.decoded) == 3, "Measurements do not travel."


def test_a_folder_is_read_with_the_folders_in_it(tmp_path: Path) -> None:
    write(tmp_path, "b.png", "a/c.JPG", "a/d.jpeg")
    (tmp_path / "notes.txt").write_text("no image")
    drawn: set[str] = set()
    for seed in range(40):
        origin = generate(ColorTransfer(references=tmp_path), make_noise(9), seed).origin
        assert origin is not None
        drawn.update(origin.drawn)
    assert drawn == {"b.png", "a/c.JPG", "a/d.jpeg"}


def test_files_are_named_from_their_common_folder(tmp_path: Path) -> None:
    write(tmp_path, "one/x.png", "two/x.png")
    generator = ColorTransfer(references=[str(tmp_path / "one" / "x.png"), str(tmp_path / "two" / "x.png")])
    names = {generate(generator, make_noise(9), seed).origin.drawn[0] for seed in range(20)}  # type: ignore[union-attr]
    assert names == {"one/x.png", "two/x.png"}
    alone = ColorTransfer(references=str(tmp_path / "one" / "x.png"))
    assert generate(alone, make_noise(9)).origin.drawn == ("x.png",)  # type: ignore[union-attr]


def test_the_fingerprint_follows_the_content_and_not_the_place(tmp_path: Path) -> None:
    for folder in ("here", "there"):
        write(tmp_path / folder, "a.png", "b.png")
    here, there = (ColorTransfer(references=tmp_path / folder).fingerprint for folder in ("here", "there"))
    assert here == there
    cv2.imwrite(str(tmp_path / "there" / "b.png"), make_noise(77).image)
    assert ColorTransfer(references=tmp_path / "there").fingerprint != here
    assert ColorTransfer(references=[tmp_path / "here" / "a.png"]).fingerprint != here
    assert ColorTransfer().fingerprint == 'ColorTransfer/1(method="reinhard", references=null)'


def test_given_references_are_not_drawn_from_the_pool() -> None:
    given = ColorTransfer(references=[make_noise(1)])
    assert not given.uses_pool
    assert ColorTransfer().uses_pool
    pool = ListPool([make_noise(2)])
    bound = given.bind(pool, classes=None)
    assert generate(bound, make_noise(0)).origin.drawn == ("references[0]",)  # type: ignore[union-attr]
    assert bound.fingerprint == given.fingerprint
    assert pool.decoded == []


def test_binding_does_not_change_the_fingerprint() -> None:
    bound = ColorTransfer().bind(ListPool([make_noise(2)]), classes=None)
    assert bound.fingerprint == ColorTransfer().fingerprint
    assert (repr(ColorTransfer()), repr(ColorTransfer(references=[make_noise(1)]))) == (
        "ColorTransfer(method='reinhard')",
        "ColorTransfer(references=<1 images>, method='reinhard')",
    )


class TestErrors:
    def check(self, kind: type[Exception], message: str, references: Any) -> None:
        with pytest.raises(kind, match=f"^{re.escape(message)}$"):
            generate(ColorTransfer(references=references), make_noise(0))

    def test_another_method(self) -> None:
        message = "method must be one of 'reinhard', 'histogram', got method='histogramm'. Did you mean 'histogram'?"
        with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
            ColorTransfer(method="histogramm")  # type: ignore[arg-type]

    def test_a_missing_folder(self, tmp_path: Path) -> None:
        path = tmp_path / "no"
        self.check(FileNotFoundError, f"references must exist, got references={str(path)!r}. Check the path.", path)

    def test_a_missing_file(self, tmp_path: Path) -> None:
        write(tmp_path, "a.png")
        path = str(tmp_path / "no.png")
        message = f"references[1] must exist, got references[1]={path!r}. Check the path."
        self.check(FileNotFoundError, message, [tmp_path / "a.png", path])

    def test_a_folder_without_images(self, tmp_path: Path) -> None:
        message = (
            f"references must hold at least one image, got references={str(tmp_path)!r}. "
            f"It looks for .jpg, .jpeg, .png, .bmp, .tif, .tiff, .webp, .ppm, .pgm."
        )
        self.check(ValueError, message, tmp_path)

    def test_an_empty_list(self) -> None:
        message = (
            "references must hold at least one image, got references=[]. Leave it out to draw from the dataset itself."
        )
        self.check(ValueError, message, [])

    def check_file(self, file: Path) -> None:
        message = (
            f"references must be whole images, got references={str(file)!r}. "
            f"It is cut short, or of a format that OpenCV cannot read."
        )
        self.check(ValueError, message, file.parent)

    @pytest.mark.parametrize("content", [b"", b"not an image"])
    def test_a_file_that_is_no_image(self, tmp_path: Path, content: bytes) -> None:
        (tmp_path / "a.png").write_bytes(content)
        self.check_file(tmp_path / "a.png")

    @pytest.mark.parametrize("name", ["a.jpg", "a.png", "a.webp"])
    @pytest.mark.parametrize("share", [0.3, 0.9])
    def test_a_file_that_is_cut_short(self, tmp_path: Path, name: str, share: float) -> None:
        write(tmp_path, name)
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[: int(len(content) * share)])
        self.check_file(tmp_path / name)

    def test_something_else(self) -> None:
        message = "references must be a folder, a list of image files, or samples, got references=3."
        self.check(TypeError, message, 3)

    def test_a_mixed_list(self, tmp_path: Path) -> None:
        write(tmp_path, "a.png")
        message = "references[1] must be a Sample, got references[1]='a.png'. Give files only, or samples only."
        self.check(TypeError, message, [make_noise(0), "a.png"])
        message = "references[1] must be an image file, got references[1]=5. Give files only, or samples only."
        self.check(TypeError, message, [tmp_path / "a.png", 5])

    def test_generating_before_binding(self) -> None:
        message = (
            "references must be given, or a pool be bound before generate, got references=None. "
            "Pass ColorTransfer to GeneratedDataset, call bind first, or give references=."
        )
        self.check(ValueError, message, None)
