"""Complete or absent, and nobody else's files are touched."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from synthloader.exports import export_samples
from synthloader.exports.folder import ExportFolder
from tests.exports.samples import (
    CLASS_NAMES,
    export,
    fail_after,
    make_instances,
    make_labels,
    make_name,
    make_no_instances,
    make_sample,
    name_samples,
    read_tree,
)
from tests.repo.sources import ROOT

SAMPLES = [make_sample(0, make_instances()), make_sample(1, make_no_instances()), make_sample(2, make_instances())]
REPLACE = "Pass force=True (--force on the command line) to replace it, or choose another folder."
FORMATS_OF_INSTANCES = ["coco", "yolo-detect", "yolo-segment", "voc", "webdataset"]


class TestAnEarlierExport:
    def test_it_is_kept_without_force(self, tmp_path: Path) -> None:
        export(SAMPLES, tmp_path, format="coco")
        before = read_tree(tmp_path)
        with pytest.raises(FileExistsError) as caught:
            export_samples(fail_after([]), tmp_path, format="coco", class_names=CLASS_NAMES)
        assert str(caught.value) == f"folder must hold no earlier export, got folder={str(tmp_path)!r}. {REPLACE}"
        assert read_tree(tmp_path) == before

    @pytest.mark.parametrize("format", FORMATS_OF_INSTANCES)
    def test_with_force_nothing_of_it_remains(self, tmp_path: Path, format: str) -> None:
        export(SAMPLES, tmp_path / "again", format=format, card={"a": 1})
        export(SAMPLES[1:2], tmp_path / "again", format="coco", force=True)
        export(SAMPLES[1:2], tmp_path / "fresh", format="coco")
        assert read_tree(tmp_path / "again") == read_tree(tmp_path / "fresh")
        assert not (tmp_path / "again" / "labels").exists()

    def test_folders_of_classes_that_are_gone_are_gone(self, tmp_path: Path) -> None:
        export_samples(make_labels(7, 2), tmp_path, format="imagefolder", class_names=CLASS_NAMES)
        export_samples(make_labels(7), tmp_path, format="imagefolder", class_names=CLASS_NAMES, force=True)
        assert sorted(path.name for path in tmp_path.iterdir() if path.is_dir()) == ["Größe"]

    def test_it_is_whole_after_an_export_over_it_failed(self, tmp_path: Path) -> None:
        export(SAMPLES, tmp_path, format="coco")
        before = read_tree(tmp_path)
        with pytest.raises(KeyboardInterrupt):
            export_samples(
                fail_after(name_samples(SAMPLES)), tmp_path, format="voc", class_names=CLASS_NAMES, force=True
            )
        assert read_tree(tmp_path) == before

    @pytest.mark.parametrize("file", ["../notes.txt", "/etc/passwd", "images/../../x", "", 5])
    def test_a_manifest_that_was_tampered_with_removes_nothing(self, tmp_path: Path, file: Any) -> None:
        (tmp_path / "notes.txt").write_text("mine")
        folder = tmp_path / "out"
        export(SAMPLES, folder, format="coco")
        manifest = json.loads((folder / "export.json").read_text())
        manifest["files"].append(file)
        (folder / "export.json").write_text(json.dumps(manifest))
        before = read_tree(tmp_path)
        with pytest.raises(ValueError, match="must list files below its folder, got "):
            export(SAMPLES, folder, format="coco", force=True)
        assert read_tree(tmp_path) == before


class TestFilesOfOthers:
    def test_they_are_left_alone(self, tmp_path: Path) -> None:
        (tmp_path / "images").mkdir()
        for file in ("notes.txt", "images/mine.png"):
            (tmp_path / file).write_text("mine")
        export(SAMPLES, tmp_path, format="coco")
        export(SAMPLES[:1], tmp_path, format="yolo-detect", force=True)
        for file in ("notes.txt", "images/mine.png"):
            assert (tmp_path / file).read_text() == "mine"
        assert sorted(path.name for path in (tmp_path / "images").iterdir()) == ["mine.png", "train"]

    @pytest.mark.parametrize("force", [False, True])
    @pytest.mark.parametrize(
        ("file", "place"),
        [
            ("annotations.json", "annotations.json"),
            ("provenance.jsonl", "provenance.jsonl"),
            ("export.json", "export.json"),
            (f"images/{make_name(1)}.png", f"images/{make_name(1)}.png"),
            ("images", "images"),
            ("annotations.json/x", "annotations.json"),
        ],
    )
    def test_one_in_the_way_is_never_replaced(self, tmp_path: Path, file: str, place: str, force: bool) -> None:
        (tmp_path / file).parent.mkdir(exist_ok=True)
        (tmp_path / file).write_text("{}")
        with pytest.raises(FileExistsError) as caught:
            export(SAMPLES, tmp_path, format="coco", force=force)
        assert str(caught.value) == (
            f"folder must hold no file of somebody else where the export writes, got folder={str(tmp_path / place)!r}. "
            "Choose another folder, or move that file away: force=True (--force on the command line) replaces only files "
            "of an earlier export."
        )
        assert read_tree(tmp_path) == {file: b"{}"}

    def test_an_earlier_file_may_become_a_folder(self, tmp_path: Path) -> None:
        export(SAMPLES, tmp_path, format="coco")
        names = {7: "annotations.json"}
        export_samples(make_labels(7), tmp_path, format="imagefolder", class_names=names, force=True)
        assert (tmp_path / "annotations.json" / f"{make_name(0)}.png").is_file()

    def test_a_file_in_place_of_the_folder(self, tmp_path: Path) -> None:
        (tmp_path / "out").write_text("mine")
        with pytest.raises(NotADirectoryError) as caught:
            export(SAMPLES, tmp_path / "out", format="coco", force=True)
        assert str(caught.value) == (
            f"folder must be a folder, got folder={str(tmp_path / 'out')!r}. Choose another name."
        )


class TestInterrupted:
    @pytest.mark.parametrize("format", FORMATS_OF_INSTANCES)
    def test_an_export_that_failed_leaves_nothing(self, tmp_path: Path, format: str) -> None:
        samples = name_samples(SAMPLES)
        with pytest.raises(KeyboardInterrupt):
            export_samples(fail_after(samples), tmp_path / "out", format=format, class_names=CLASS_NAMES)
        assert not (tmp_path / "out").exists()
        export_samples(samples, tmp_path / "out", format=format, class_names=CLASS_NAMES)

    def test_an_export_that_was_killed_is_never_seen_and_can_be_done_again(self, tmp_path: Path) -> None:
        code = f"""
import sys, time
sys.path.insert(0, {str(ROOT)!r})
from pathlib import Path
from tests.exports.samples import *
def samples():
    yield make_name(0), make_sample(0, make_instances())
    print("written", flush=True)
    time.sleep(60)
export_samples(samples(), {str(tmp_path)!r}, format="coco", class_names=CLASS_NAMES)
"""
        with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            assert process.stdout.readline() == "written\n"
            deadline = time.monotonic() + 30
            staged = tmp_path / ".export-incomplete" / "files" / "images" / f"{make_name(0)}.png"
            while not staged.exists() and time.monotonic() < deadline:
                time.sleep(0.01)
            with pytest.raises(FileExistsError) as caught:
                export(SAMPLES, tmp_path, format="coco", force=True)
            assert str(caught.value) == (
                f"folder must not be written to by another process, got folder={str(tmp_path)!r}. Wait until that has "
                "ended, or choose another folder."
            )
            os.kill(process.pid, signal.SIGKILL)
        assert [path.name for path in tmp_path.iterdir()] == [".export-incomplete"]
        export(SAMPLES, tmp_path, format="coco")
        export(SAMPLES, tmp_path.parent / "fresh", format="coco", force=True)
        assert read_tree(tmp_path) == read_tree(tmp_path.parent / "fresh")
        assert not (tmp_path / ".export-incomplete").exists()

    @pytest.mark.parametrize("num_moves", [0, 1, 2, 4])
    def test_one_that_ends_while_files_are_put_in_place_has_no_manifest(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, num_moves: int
    ) -> None:
        export(SAMPLES, tmp_path, format="yolo-detect")
        replace, left = Path.replace, [1 + num_moves]  # the first is that of the journal

        def fail_later(self: Path, target: Path) -> Path:
            if not left[0]:
                raise KeyboardInterrupt
            left[0] -= 1
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", fail_later)
        with pytest.raises(KeyboardInterrupt):
            export(SAMPLES, tmp_path, format="coco", force=True)
        monkeypatch.undo()
        assert not (tmp_path / "export.json").exists()
        assert not (tmp_path / "annotations.json").exists()
        with pytest.raises(FileExistsError) as caught:
            export(SAMPLES, tmp_path, format="coco")
        assert str(caught.value) == (
            f"folder must hold no export that was interrupted while it replaced files, got folder={str(tmp_path)!r}. "
            f"{REPLACE}"
        )
        with pytest.raises(KeyboardInterrupt):
            export_samples(
                fail_after(name_samples(SAMPLES)), tmp_path, format="voc", class_names=CLASS_NAMES, force=True
            )
        export(SAMPLES[:1], tmp_path, format="voc", force=True)
        export(SAMPLES[:1], tmp_path.parent / "whole", format="voc", force=True)
        assert read_tree(tmp_path) == read_tree(tmp_path.parent / "whole")

    def test_the_manifest_lists_every_file(self, tmp_path: Path) -> None:
        export(SAMPLES, tmp_path, format="voc", card={"ratio": 0.5})
        manifest = json.loads((tmp_path / "export.json").read_text())
        assert sorted([*manifest["files"], "export.json"]) == sorted(read_tree(tmp_path))
        assert manifest["classes"] == [
            {"id": 2, "name": "fig & date"},
            {"id": 7, "name": "Größe"},
            {"id": 40, "name": "a: yes"},
        ]
        assert (manifest["format"], manifest["num_written"], manifest["left_out"]) == ("voc", 3, {})

    def test_a_folder_that_was_there_is_kept(self, tmp_path: Path) -> None:
        with pytest.raises(KeyboardInterrupt):
            export_samples(fail_after([]), tmp_path, format="coco", class_names=CLASS_NAMES)
        assert tmp_path.is_dir()
        assert read_tree(tmp_path) == {}

    def test_leaving_the_block_closes_what_is_open(self, tmp_path: Path) -> None:
        with ExportFolder(tmp_path, force=False) as folder:
            stream = folder.open("a.txt")
        assert stream.closed
