"""The command line: exit statuses, what goes where, and one line for a user's mistake."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import warnings
from importlib.metadata import version
from pathlib import Path

import cv2
import numpy as np
import pytest
from typer.testing import CliRunner

from synthloader.cache import LMDBCache
from synthloader.cli import app
from synthloader.cli.exit_status import describe_error, say_warning
from synthloader.cli.precompute import count_workers
from tests.scenes import write_coco

RECIPE = """\
source: {format: coco, images: data/images, annotations: data/annotations.json}
generator: {copy_paste: {num_range: [1, 2]}}
filters: [{min_box: {min_side: 9, drop: samples}}]
plan: {add: 0.5}
variants: 2
cache: cache
"""


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_coco(tmp_path / "data", 6)
    (tmp_path / "recipe.yaml").write_text(RECIPE)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def run(*arguments: str) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, list(arguments))
    return result.exit_code, result.stdout, result.stderr


def test_precompute_fills_the_cache_and_says_what_it_did(folder: Path) -> None:
    status, out, err = run("precompute", "recipe.yaml", "--workers", "0")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    with LMDBCache(folder / "cache") as cache:
        num_entries = len(cache)
    assert first.startswith("12 of 12 samples are ready in cache") or "no candidate was accepted" in first
    assert second.startswith(f"{num_entries} generated, 0 found in the cache, ")
    status, out, err = run("precompute", "recipe.yaml", "--workers", "0", "--quiet")
    assert out.splitlines()[1].startswith(f"0 generated, {num_entries} found in the cache, ")


def test_precompute_says_what_the_plan_asks_for_beyond_what_there_can_be(folder: Path) -> None:
    plan = "plan: {balance: {to: 15, cap: 1, classes: [coin]}}"
    (folder / "recipe.yaml").write_text(RECIPE.replace("plan: {add: 0.5}", plan))
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        status, out, _ = run("precompute", "recipe.yaml", "--workers", "0", "--quiet")
    assert status == 0
    assert out.splitlines()[2:] == [
        "The plan asks for 11 samples in an epoch, of which it can have 4: see the warnings."
    ]


def test_precompute_gives_one_json_object(folder: Path) -> None:
    status, out, err = run("precompute", "recipe.yaml", "--workers", "0", "--json")
    assert (status, err) == (0, "")
    report = json.loads(out)
    assert (report["total"], report["done"], report["interrupted"]) == (12, 12, False)
    assert report["cache"] == str(folder / "cache")
    assert report["generated"] == report["accepted"] + sum(report["rejected"].values())


def test_a_balance_plan_is_filled_for_its_classes(folder: Path) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace("{add: 0.5}", "{balance: {to: 9, classes: [coin, cell]}}"))
    status, out, _ = run("precompute", "recipe.yaml", "--workers", "0", "--json")
    assert (status, json.loads(out)["total"]) == (0, 24)


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp"])
def test_preview_draws_the_recipe_and_puts_nothing_into_its_cache(folder: Path, suffix: str) -> None:
    out_file = folder / "new" / f"sheet{suffix}"
    status, out, err = run("preview", "recipe.yaml", "--out", str(out_file), "--count", "3")
    assert (status, out, err) == (
        0,
        f"{out_file}: 2 of 3 samples were accepted; the captions say why the others were not\n",
        "",
    )
    sheet = cv2.imread(str(out_file))
    assert sheet is not None
    assert sheet.shape[1] > 800
    with LMDBCache(folder / "cache") as cache:
        assert len(cache) == 0


def test_preview_of_another_epoch_shows_other_samples(folder: Path) -> None:
    sheets = []
    for epoch in ("0", "0", "3"):
        assert run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "2", "--epoch", epoch)[0] == 0
        sheets.append((folder / "sheet.png").read_bytes())
    assert sheets[0] == sheets[1] != sheets[2]


def test_a_plain_preview_draws_no_labels(folder: Path) -> None:
    for name, options in (("plain.png", ["--plain"]), ("drawn.png", [])):
        assert run("preview", "recipe.yaml", "--out", name, "--count", "2", *options)[0] == 0
    assert (folder / "plain.png").read_bytes() != (folder / "drawn.png").read_bytes()


def test_preview_says_how_many_were_accepted(folder: Path) -> None:
    for recipe, said in (
        (re.sub("filters:.*\n", "", RECIPE), "3 generated samples beside their sources"),
        (
            RECIPE.replace("copy_paste: {", "copy_paste: {min_visible: 1, placement: non_overlapping, max_tries: 1, "),
            "",
        ),
    ):
        (folder / "recipe.yaml").write_text(recipe)
        out = run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "3")[1]
        accepted = json.loads(run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "3", "--json")[1])[
            "accepted"
        ]
        others = f"{accepted} of 3 samples were accepted; the captions say why the others were not"
        assert out == f"sheet.png: {said or others}\n"


def test_a_preview_of_a_plan_that_can_make_nothing_is_refused(folder: Path) -> None:
    plan = "plan: {balance: {to: 40, classes: [cell]}}"
    cutouts = folder / "cutouts" / "disc"
    cutouts.mkdir(parents=True)
    pixels = np.full((9, 9, 4), 200, np.uint8)
    pixels[0] = 0
    cv2.imwrite(str(cutouts / "0.png"), pixels)
    recipe = RECIPE.replace("num_range: [1, 2]", "cutouts: cutouts").replace("plan: {add: 0.5}", plan)
    (folder / "recipe.yaml").write_text(recipe)
    with pytest.warns(UserWarning, match="has no donors of this class that can be used"):
        status, out, err = run("preview", "recipe.yaml", "--out", "sheet.png")
    assert (status, out) == (1, "")
    last = err.splitlines()[-1]
    assert re.search(
        r"recipe\.yaml: none of the \d+ samples that the plan asks for can be generated\. The warning", last
    )
    assert not (folder / "sheet.png").exists()


SEARCHING = RECIPE.replace(
    "{copy_paste: {num_range: [1, 2]}}",
    "[{metadata_alignment: {generator: copy_paste, attributes: [count], num_probes: 4, "
    "parameters: {count: {num_range: [[1, 1], [3, 3]]}}}}, color_transfer]",
)


def test_preview_says_that_options_are_searched_and_what_it_brought(folder: Path) -> None:
    pytest.importorskip("sklearn")
    (folder / "recipe.yaml").write_text(SEARCHING)
    status, out, err = run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "2")
    assert status == 0
    assert re.fullmatch(r"searching options for MetadataAlignment \.\.\. \d+\.\d s\n", err)
    said = out.splitlines()
    assert said[:4] == [
        "sheet.png: 0 of 2 samples were accepted; the captions say why the others were not",
        "",
        "MetadataAlignment, distance to the reference:",
        "attribute     aligned  components  before   after",
    ]
    assert said[4].startswith("box_area      no ")
    (report,) = json.loads(run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "2", "--json")[1])["reports"]
    assert report["generator"] == "MetadataAlignment"
    (count,) = (row for row in report["rows"] if row["attribute"] == "count")
    assert count["aligned"]
    assert set(count) == {"attribute", "aligned", "num_components", "before", "after"}


def test_precompute_searches_before_it_begins(folder: Path) -> None:
    pytest.importorskip("sklearn")
    (folder / "recipe.yaml").write_text(SEARCHING)
    status, _, err = run("precompute", "recipe.yaml", "--workers", "0")
    assert status == 0
    assert err.startswith("searching options for MetadataAlignment ... ")
    assert run("precompute", "recipe.yaml", "--workers", "0", "--quiet")[2] == ""


@pytest.mark.parametrize("plan", ["", "plan: {add: 0}\n", "plan: only\n", "plan: {balance: {to: 5}}\n"])
def test_preview_with_any_plan_and_without_one(folder: Path, plan: str) -> None:
    (folder / "recipe.yaml").write_text(RECIPE.replace("plan: {add: 0.5}\n", plan))
    status, out, _ = run("preview", "recipe.yaml", "--out", "sheet.png", "--count", "4", "--json")
    assert status == 0
    report = json.loads(out)
    assert (report["out"], report["count"]) == ("sheet.png", 4)
    assert 0 <= report["accepted"] <= 4
    assert len(report["size_hw"]) == 2


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["precompute", "nothing.yaml"], "the recipe nothing.yaml does not exist. Check the path."),
        (
            ["precompute", "wrong.yaml"],
            "wrong.yaml, line 2: generator.copy_paste has no option 'num_rnage'. Did you mean 'num_range'? Allowed: "
            "allow_blank_backgrounds, backgrounds, blend, bottom_range, classes, cutouts, elastic_range, flip, max_tries, "
            "min_visible, num_range, placement, rotation_range, scale_range.",
        ),
        (
            ["precompute", "uncached.yaml"],
            "uncached.yaml: the recipe needs the key 'cache' to fill one. Add, for example, `cache: cache/train`.",
        ),
        (
            ["precompute", "endless.yaml"],
            "endless.yaml: the recipe needs the key 'variants' to fill a cache. Add, for example, `variants: 4`.",
        ),
        (["demo", "--data", "nowhere"], "--data must name a folder that exists, got nowhere."),
    ],
)
def test_a_mistake_is_said_in_one_line(folder: Path, arguments: list[str], message: str) -> None:
    (folder / "wrong.yaml").write_text(RECIPE.replace("num_range", "num_rnage"))
    (folder / "uncached.yaml").write_text(RECIPE.replace("cache: cache\n", ""))
    (folder / "endless.yaml").write_text(RECIPE.replace("variants: 2\n", ""))
    assert run(*arguments) == (1, "", f"synthloader: error: {message}\n")


def test_a_second_writer_is_refused(folder: Path) -> None:
    code = (
        "import sys; from synthloader.cache import LMDBCache; from synthloader.protocols import Rejected\n"
        "cache = LMDBCache('cache'); cache.put(b'0123456789abcdef', Rejected('x')); print('open', flush=True)\n"
        "sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, cwd=folder
    )
    assert other.stdin is not None
    assert other.stdout is not None
    with other.stdin, other.stdout:
        assert other.stdout.readline() == "open\n"
        status, out, err = run("precompute", "recipe.yaml", "--workers", "0")
    other.wait(30)
    assert (status, out) == (1, "")
    assert err.startswith(f"synthloader: error: Writing to the cache {folder}/cache: ")
    assert err.count("\n") == 1


@pytest.mark.parametrize(
    "arguments",
    [
        ["precompute"],
        ["prevew", "recipe.yaml"],
        ["preview", "recipe.yaml", "--count", "0"],
        ["preview", "recipe.yaml", "--out", "sheet.gif"],
        ["precompute", "recipe.yaml", "--workers", "many"],
        ["demo", "--ratio", "-1"],
        ["demo", "--steps", "0"],
    ],
)
def test_wrong_usage_is_status_2_and_leaves_nothing(folder: Path, arguments: list[str]) -> None:
    before = sorted(folder.iterdir())
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: " in err
    assert sorted(folder.iterdir()) == before


def test_version_and_help() -> None:
    assert run("--version") == (0, f"synthloader {version('synthloader')}\n", "")
    for command in ([], ["demo"], ["precompute"], ["preview"]):
        status, out, _ = run(*command, "--help")
        assert status == 0
        assert "synthloader" in out


def test_notes_of_an_error_are_in_its_line() -> None:
    error = OSError("image file is truncated\n(12 bytes)")
    error.__notes__ = ["while reading item 3 of CocoDataset (a.png)"]
    assert describe_error(error) == ("image file is truncated (12 bytes) (while reading item 3 of CocoDataset (a.png))")
    assert describe_error(ValueError()) == "ValueError"


def test_a_truncated_image_is_said_in_one_line(folder: Path) -> None:
    image = folder / "data" / "images" / "scene_002.png"
    image.write_bytes(image.read_bytes()[:200])
    status, out, err = run("precompute", "recipe.yaml", "--workers", "0")
    assert (status, out) == (1, "")
    assert err.startswith("synthloader: error: ")
    assert str(image) in err
    assert err.count("\n") == 1


def test_our_warnings_look_like_our_errors_and_others_as_ever(capsys: pytest.CaptureFixture[str]) -> None:
    say_warning(UserWarning("too few variants"), UserWarning, "mixed.py", 3)
    say_warning(DeprecationWarning("old"), DeprecationWarning, "other.py", 3)
    err = capsys.readouterr().err
    assert err == "synthloader: warning: too few variants\n" + warnings.formatwarning(
        "old", DeprecationWarning, "other.py", 3
    )


def test_workers_are_as_many_as_asked_or_as_the_machine_has(monkeypatch: pytest.MonkeyPatch) -> None:
    assert count_workers(3) == 3
    for usable, wanted in ((1, 0), (4, 4), (96, 8)):
        monkeypatch.setattr("os.sched_getaffinity", lambda pid, usable=usable: set(range(usable)), raising=False)
        assert count_workers(None) == wanted


def test_the_modules_of_the_command_line_load_nothing_heavy_themselves() -> None:
    code = (
        "import sys; import synthloader; before = set(sys.modules); import synthloader.cli; "
        "print(sorted({name.partition('.')[0] for name in set(sys.modules) - before} & "
        "{'torchvision', 'skimage', 'matplotlib', 'pandas', 'scipy'}))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout == "[]\n"
