from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from torchvision.datasets import ImageFolder

from synthloader.exports import export_samples
from tests.exports.samples import CLASS_NAMES, make_labels, make_name, read_tree


def test_torchvision_reads_the_same_labels(tmp_path: Path) -> None:
    samples = make_labels(7, 2, 7, 7)
    export_samples(samples, tmp_path, format="imagefolder", class_names=CLASS_NAMES)
    dataset = ImageFolder(tmp_path)
    assert dataset.classes == ["Größe", "fig & date"]
    by_name = {Path(path).stem: (path, dataset.classes[label]) for path, label in dataset.samples}
    assert len(by_name) == 4
    for name, sample in samples:
        path, label = by_name[name]
        assert label == CLASS_NAMES[sample.target.class_id]  # type: ignore[union-attr]
        np.testing.assert_array_equal(np.array(dataset.loader(path)), sample.image)


def test_classes_that_do_not_occur_have_no_folder(tmp_path: Path) -> None:
    export_samples(make_labels(2), tmp_path, format="imagefolder", class_names=CLASS_NAMES, image_format="jpeg")
    assert list(read_tree(tmp_path)) == ["export.json", f"fig & date/{make_name(0)}.jpg", "provenance.jsonl"]


@pytest.mark.parametrize(
    "name",
    ["a/b", "..", ".", "/etc", "a\\b", "a\0b", "a\nb", "export.json", "card.json", "é" * 128, ".export-incomplete"],
)
def test_names_that_no_folder_can_have_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        export_samples(make_labels(7), tmp_path / "out", format="imagefolder", class_names={7: "fig", 3: name})
    shown = repr(name) if len(repr(name)) <= 120 else repr(name)[:117] + "..."
    assert str(caught.value) == (
        f"class_names[3] must be a name that a folder can have, got class_names[3]={shown}. Rename the class, or export "
        "as 'webdataset'."
    )
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("name", ["", "  "])
def test_empty_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(ValueError) as caught:
        export_samples(make_labels(7), tmp_path / "out", format="imagefolder", class_names={7: name})
    assert str(caught.value) == (
        f"class_names[7] must be a text with letters, got class_names[7]={name!r}. Give the class a name."
    )
