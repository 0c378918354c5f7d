"""`synthloader cache ...`: what each says, where, and what it ends with."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import cv2
import pytest
from typer.testing import CliRunner

import synthloader.exports
import synthloader.progress
from synthloader.cache import LMDBCache
from synthloader.cache.record import encode_entry
from synthloader.cli import app
from synthloader.cli.cache.byte_sizes import parse_bytes
from synthloader.cli.cache.columns import find_width, show_value, write_facts, write_table
from synthloader.cli.cache.export import _FORMATS
from synthloader.generators import CopyPaste
from synthloader.precompute import precompute
from synthloader.protocols import Rejected
from synthloader.recipe import load_recipe
from synthloader.sample import Origin
from tests.cache.samples import make_sample
from tests.cache.upkeep.stocks import damage, fill, name, put_raw
from tests.scenes import write_coco

RECIPE = """\
source: {format: coco, images: data/images, annotations: data/annotations.json}
generator: {copy_paste: {num_range: [1, 2]}}
filters: [{min_box: {min_side: 10, drop: samples}}]
plan: {add: 0.5}
variants: 2
cache: cache
"""
COMMAND = [sys.executable, "-c", "from synthloader.cli import main; main()"]
BOX = 'MinBox/1(drop="samples", min_area=10.0, min_side=10.0)'
PASTE = CopyPaste(num_range=(1, 2)).fingerprint


@pytest.fixture(scope="module")
def filled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("filled")
    write_coco(root / "data", 6)
    (root / "recipe.yaml").write_text(RECIPE)
    generated = load_recipe(root / "recipe.yaml").generated()
    precompute(generated, progress=False)
    generated.cache.close()  # type: ignore[union-attr]
    return root


@pytest.fixture(autouse=True)
def folder(filled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    shutil.copytree(filled, tmp_path, dirs_exist_ok=True)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("COLUMNS", "80")
    return tmp_path


def run(*arguments: str, input: str | None = None) -> tuple[int, str, str]:
    result = CliRunner().invoke(app, ["cache", *arguments], input=input)
    return result.exit_code, result.stdout, result.stderr


def read_json(*arguments: str) -> Any:
    status, out, err = run(*arguments, "--json")
    assert (status, err) == (0, "")
    return json.loads(out)


def count() -> tuple[int, int]:
    """Number of entries and of accepted samples."""
    card = read_json("stats", "cache")
    return card["num_samples"], card["verdicts"][0]["accepted"]


# ------------------------------------------------------------------------------------------------ stats


def test_stats_says_what_is_inside(folder: Path) -> None:
    status, out, err = run("stats", "cache")
    assert (status, err) == (0, "")
    num_samples, num_accepted = count()
    lines = out.splitlines()
    assert re.fullmatch(rf"cache: {num_samples} samples, [\d.]+ kB", lines[0])
    assert max(map(len, lines)) <= 80
    for line in ("images   zstd", "labels   instances", "terms    not said", "Generators", "Classes", "Verdicts"):
        assert line in lines
    assert f"  {num_accepted:8}  {num_samples - num_accepted:8}  MinBox/1(" in out


def test_stats_of_an_empty_cache_and_of_a_folder_of_shards(folder: Path) -> None:
    (folder / "empty").mkdir()
    (folder / "empty" / "card.json").write_text("{}")  # As exports have one.
    message = "the folder holds no cache (correct the path, or fill it: synthloader precompute)"
    for command in ("stats", "verify", "inspect", "compact"):
        assert run(command, "empty") == (1, "", f"synthloader: error: Opening the cache {folder}/empty: {message}\n")
    (folder / "empty" / "data.mdb").touch()
    assert run("stats", "empty")[1].splitlines()[0] == "empty: 0 samples, 0 B"
    nothing = "empty: there is nothing in it: it was never filled, or what it held was lost.\n"
    assert run("verify", "empty") == (0, nothing, "")
    (folder / "all").mkdir()
    (folder / "cache").rename(folder / "all" / "machine-1")
    assert read_json("stats", "all")["shards"].keys() == {"machine-1"}


def test_stats_saves_two_files_where_it_is_asked_to(folder: Path) -> None:
    card = read_json("stats", "cache")
    assert not (folder / "cache" / "card.json").exists()
    _, out, _ = run("stats", "cache", "--save")
    assert out.splitlines()[-1] == "Saved as cache/card.json and cache/card.md."
    assert json.loads((folder / "cache" / "card.json").read_text()) == card
    assert (folder / "cache" / "card.md").read_text().startswith("# Generated samples\n")


def test_everything_that_a_card_can_say_fits_a_terminal(folder: Path) -> None:
    with LMDBCache(folder / "other") as cache:
        for number in range(30):
            origin = Origin(f"{number}.jpg", "InstructEdit/1(" + "x" * 150 + ")", prompt=f"make it {number} " * 20,
                            model="sd", weights="f" * 40, license="terms " * 30, class_names={number: "fig"})  # fmt: skip
            cache.put(name(number), make_sample(number).replace(origin=origin))
        cache.put(name(99), Rejected("no donor", origin))
        put_raw(cache, name(98), b"broken")
    status, out, _ = run("stats", "other")
    assert status == 0
    assert max(map(len, out.splitlines())) <= 80
    for text in ("not made  1 candidate: no donor", "Prompts (30)", "... and 27 other prompts", "Cannot be read"):
        assert text in out
    assert "  ... and 10 more (--json lists all)\n" in out  # classes


# ------------------------------------------------------------------------------------------------ verify


def test_verify_of_a_whole_cache(folder: Path) -> None:
    status, out, err = run("verify", "cache")
    assert (status, err) == (0, "")
    assert re.fullmatch(r"cache: \d+ entries and \d+ verdicts were read \([\d.]+ kB\); all are intact\.\n", out)


def test_verify_finds_and_takes_out_what_is_broken(folder: Path) -> None:
    with LMDBCache(folder / "cache") as cache:
        key = next(iter(cache))
        put_raw(cache, key, damage(encode_entry(make_sample(1))))
    status, out, err = run("verify", "cache")
    assert status == 1
    first, second = out.splitlines()
    assert first == f"broken entry {key.hex()} in cache: its bytes do not match its checksum"
    assert second.endswith("; 1 broken.")
    assert err == ("Take the broken records out, to be generated again: synthloader cache verify cache --quarantine\n")
    assert run("verify", "cache", "--json")[0] == 1
    status, out, err = run("verify", "cache", "--quarantine")
    assert (status, err) == (0, "")
    assert out.splitlines()[0] == f"{first} -> cache/quarantine/{key.hex()}.entry"
    assert out.splitlines()[1].endswith("; 1 broken, 1 of them moved to quarantine.")
    assert read_json("verify", "cache")["findings"] == []


# ------------------------------------------------------------------------------------------------ inspect


def test_inspect_lists_finds_and_draws(folder: Path) -> None:
    entries = read_json("inspect", "cache")["entries"]
    assert run("inspect", "cache")[1].startswith(f"{entries[0]['key']}  {entries[0]['summary']}\n")
    key = entries[0]["key"]
    status, out, err = run("inspect", "cache", key[:12], "--out", "new/sample.png")
    assert (status, err) == (0, "")
    lines = out.splitlines()
    assert lines[:2] == [f"key        {key}", "kind       sample"]
    assert lines[-1] == "Drawn as new/sample.png."
    assert cv2.imread("new/sample.png") is not None
    assert max(map(len, lines)) <= 80
    report = read_json("inspect", "cache", key.upper())
    assert (report["key"], report["origin"]["fingerprint"]) == (key, PASTE)
    assert report["verdicts"][0]["filters"] == BOX


def test_inspect_says_which_entries_a_beginning_could_mean(folder: Path) -> None:
    with LMDBCache(folder / "other") as cache:
        fill(cache, [1, 2])
        cache.put(name(3), Rejected("no donor", Origin("a.jpg", attempt=1)))
    status, out, err = run("inspect", "other", "3030")
    assert (status, out) == (1, "")
    assert err == (
        "synthloader: error: 3 entries of other begin with 3030. Give more digits:\n"
        f"  {name(1).hex()}  sample of images/1.jpg, variant 1, attempt 2\n"
        f"  {name(2).hex()}  sample of images/2.jpg, variant 1, attempt 2\n"
        f"  {name(3).hex()}  rejected of a.jpg, variant 0, attempt 1: no donor\n"
    )
    assert run("inspect", "other", "ff") == (1, "", "synthloader: error: no entry of other begins with ff.\n")
    assert run("inspect", "other", name(3).hex(), "--out", "a.png") == (
        1,
        "",
        f"synthloader: error: Drawing entry {name(3).hex()}: the generator could not make it, so there is no picture "
        "(leave --out away)\n",
    )


# ------------------------------------------------------------------------------------------------ merge, compact


def test_merge_unites_and_folds(folder: Path) -> None:
    num_samples, _ = count()
    with LMDBCache(folder / "cache") as cache, cache.open_shard("shard-a") as shard:
        fill(shard, [1])
    status, out, err = run("merge", "all", "cache")
    assert (status, err) == (0, "")
    first, second = out.splitlines()
    assert re.fullmatch(rf"{num_samples + 1} entries and {num_samples} verdicts came in \([\d.]+ kB\)\.", first)
    assert second == f"all has {num_samples + 1} entries now."
    assert run("merge", "cache")[1].splitlines()[0].endswith(" 1 shard folded and removed.")
    assert run("merge", "cache")[1] == f"Nothing to do: there are no shards. cache has {num_samples + 1} entries now.\n"
    report = read_json("merge", "all", "cache")
    assert (report["num_entries"], report["num_known"], report["num_entries_now"]) == (
        0,
        2 * num_samples + 1,
        num_samples + 1,
    )


def test_merge_refuses_in_one_line_and_makes_nothing(folder: Path) -> None:
    assert run("merge", "all", "cache", "nowhere") == (
        1,
        "",
        f"synthloader: error: Opening the cache {folder}/nowhere: there is no such folder (correct the path)\n",
    )
    assert not (folder / "all").exists()
    with LMDBCache(folder / "broken") as cache:
        put_raw(cache, name(1), b"broken")
    assert run("merge", "all", "broken")[0] == 1
    assert read_json("merge", "all", "broken", "--skip-broken")["num_broken"] == 1


def test_compact_says_both_sizes(folder: Path) -> None:
    with LMDBCache(folder / "cache") as cache:
        fill(cache, range(100))
        cache.delete(map(name, range(100)))
    before = (folder / "cache" / "data.mdb").stat().st_size
    report = read_json("compact", "cache")
    after = (folder / "cache" / "data.mdb").stat().st_size
    assert (report["before"], report["after"]) == (before, after)
    assert after < before
    assert re.fullmatch(r"cache: [\d.]+ kB before, [\d.]+ kB now\.\n", run("compact", "cache")[1])


# ------------------------------------------------------------------------------------------------ prune


def test_prune_shows_asks_and_removes(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    num_samples, _ = count()
    (folder / "other.yaml").write_text(RECIPE.replace("[1, 2]", "[2, 3]"))
    status, out, err = run("prune", "cache", "--recipe", "other.yaml", "--dry-run")
    assert (status, err) == (0, "")
    assert out.splitlines()[0].startswith(f"would go  {num_samples} entries, {num_samples} verdicts, ")
    assert "generator that nothing asks for" in out
    assert run("prune", "cache", "--recipe", "other.yaml") == (
        1,
        re.sub(
            r"^(would go|made|to stay|note)  ", lambda at: f"{at[1]} ".replace("would go", "to go   "), out, flags=re.M
        ),
        f"synthloader: error: Pruning the cache {folder}/cache: there is no terminal to ask for confirmation at, and "
        "nothing was removed (look with --dry-run, then pass --yes)\n",
    )
    monkeypatch.setattr(sys.modules["synthloader.cli.cache.prune"], "_can_ask", lambda: True)
    status, out, err = run("prune", "cache", "--recipe", "other.yaml", input="n\n")
    assert status == 1
    assert err.endswith(f"Remove {num_samples} entries for good? [y/N]:Nothing was removed.\n")
    assert count()[0] == num_samples
    status, out, err = run("prune", "cache", "--recipe", "other.yaml", input="y\n")
    assert status == 0
    assert out.splitlines()[-1] == (
        "Removed. The file keeps its size, with room for new entries, until: synthloader cache compact cache"
    )
    assert read_json("stats", "cache")["num_samples"] == 0
    assert run("prune", "cache", "--max-size", "1GB") == (0, "Nothing to remove; 0 entries, 0 B are kept.\n", "")


def test_prune_keeps_what_recipes_and_fingerprints_name(folder: Path) -> None:
    num_samples, _ = count()
    (folder / "other.yaml").write_text(RECIPE.replace("[1, 2]", "[2, 3]"))
    (folder / "balance.yaml").write_text(RECIPE.replace("{add: 0.5}", "{balance: {to: 9, classes: [coin]}}"))
    for wanted in (
        ["--recipe", "recipe.yaml"],
        ["--recipe", "other.yaml", "--recipe", "recipe.yaml"],
        ["--recipe", "balance.yaml"],
        ["--recipe", "other.yaml", "--fingerprint", PASTE],
    ):
        report = read_json("prune", "cache", *wanted, "--dry-run")
        assert (report["num_entries"], report["num_kept"], report["dry_run"]) == (0, num_samples, True)


def test_entries_that_a_balance_plan_aimed_at_classes_are_kept(folder: Path) -> None:
    (folder / "balance.yaml").write_text(
        RECIPE.replace("{add: 0.5}", "{balance: {to: 9, classes: [coin]}}").replace("cache: cache", "cache: aimed")
    )
    assert CliRunner().invoke(app, ["precompute", "balance.yaml", "--workers", "0", "--quiet"]).exit_code == 0
    assert read_json("prune", "aimed", "--recipe", "balance.yaml", "--dry-run")["num_entries"] == 0
    assert read_json("prune", "aimed", "--recipe", "recipe.yaml", "--dry-run")["num_kept"] == 0
    assert read_json("export", "aimed", "out", "--format", "coco", "--recipe", "balance.yaml")["export"]["num_written"]


def test_prune_to_a_size(folder: Path) -> None:
    report = read_json("prune", "cache", "--max-size", "20kB", "--yes")
    assert report["num_removed"] == report["num_entries"] == report["num_oldest"] > 0
    assert read_json("stats", "cache")["num_bytes"] <= 20_000


# ------------------------------------------------------------------------------------------------ export


def test_export_writes_the_accepted_samples(folder: Path) -> None:
    num_samples, num_accepted = count()
    status, out, err = run("export", "cache", "out", "--format", "coco")
    assert (status, err) == (0, "")
    annotations = json.loads((folder / "out" / "annotations.json").read_text())
    num_written = len(annotations["images"])
    assert 0 < num_written <= num_accepted
    assert out.splitlines()[0] == f"out: {num_written} samples as coco."
    assert out.splitlines()[1] == f"accepted by   {BOX}"
    assert {each["name"] for each in annotations["categories"]} <= {"coin", "cell", "seed", "leaf", "fig"} | {
        each["name"] for each in json.loads((folder / "data" / "annotations.json").read_text())["categories"]
    }
    assert json.loads((folder / "out" / "card.json").read_text())["num_samples"] == num_samples
    status, out, err = run("export", "cache", "out", "--format", "coco")
    assert (status, out) == (1, "")
    assert "--force" in err
    assert err.count("\n") == 1
    assert run("export", "cache", "out", "--format", "yolo-detect", "--force", "--image-format", "jpeg")[0] == 0


def test_export_takes_the_filters_of_a_recipe_or_none(folder: Path) -> None:
    num_samples, num_accepted = count()
    report = read_json("export", "cache", "one", "--format", "voc", "--recipe", "recipe.yaml")
    assert report["selection"]["filters"] == BOX
    assert report["selection"]["num_rejected"] == num_samples - num_accepted
    report = read_json("export", "cache", "two", "--format", "voc", "--filters", "")
    assert (report["selection"]["filters"], report["selection"]["num_rejected"]) == ("", 0)
    (folder / "other.yaml").write_text(RECIPE.replace("min_side: 10", "min_side: 11"))
    status, out, err = run("export", "cache", "three", "--format", "voc", "--recipe", "other.yaml")
    assert (status, out) == (1, "")
    assert err.startswith("synthloader: error: filters must be a chain that the cache has verdicts of, got filters=")
    assert err.endswith(f"It has those of: {BOX}\n")
    (folder / "seed.yaml").write_text(RECIPE + "seed: 7\n")
    status, out, err = run("export", "cache", "three", "--format", "voc", "--recipe", "seed.yaml")
    assert err == (
        f"synthloader: error: Exporting the cache {folder}/cache: no sample is accepted: {num_samples} made "
        "otherwise, or of what is no longer there (fill it: synthloader precompute)\n"
    )
    assert not (folder / "three").exists()


def test_export_does_not_call_samples_of_another_recipe_later_attempts_only(folder: Path) -> None:
    (folder / "other.yaml").write_text(RECIPE + 'version: "corrected"\n')
    generated = load_recipe(folder / "other.yaml").generated()
    made = precompute(generated, progress=False).accepted
    generated.cache.close()  # type: ignore[union-attr]
    status, out, _ = run("export", "cache", "out", "--format", "coco")
    assert status == 0
    said = (
        rf"{made} further ones of the same sources and variants \(later attempts; without --recipe also other recipes\)"
    )
    assert re.search(said, " ".join(out.split()))


@pytest.mark.parametrize(
    "change",
    [
        'version: "corrected"\n',
        "variants: 1\n",
        "attempts: 1\n",
        "pool: {format: coco, images: other/images, annotations: other/annotations.json}\n",
    ],
)
def test_export_takes_what_a_run_of_the_recipe_is_served_and_nothing_else(folder: Path, change: str) -> None:
    field = change.partition(":")[0]
    kept = "".join(line for line in RECIPE.splitlines(True) if not line.startswith(f"{field}:"))
    write_coco(folder / "other", 3)
    (folder / "other.yaml").write_text(kept + change)
    made = {name: load_recipe(folder / name).generated() for name in ("recipe.yaml", "other.yaml")}
    precompute(made["other.yaml"], progress=False)
    for recipe, generated in made.items():
        assert generated.cache is not None
        served = set()
        for index in range(len(generated)):
            source, variant = generated.locate(index)
            sample = generated.make(source, variant).sample
            if sample is not None:
                assert sample.origin is not None
                served.add(generated.make_cache_key(source, variant, sample.origin.attempt).hex())
        generated.cache.close()
        status, _, err = run("export", "cache", recipe[:5], "--format", "webdataset", "--recipe", recipe)
        assert (status, err) == (0, "")
        lines = (folder / recipe[:5] / "provenance.jsonl").read_text().splitlines()
        assert {json.loads(line)["name"] for line in lines} == served


def test_export_says_when_nothing_was_judged_and_numbers_classes_without_names(folder: Path) -> None:
    with LMDBCache(folder / "other") as cache:
        fill(cache, [1])
    status, out, err = run("export", "other", "out", "--format", "coco")
    assert (status, err) == (0, "")
    assert out == "out: 1 sample as coco. No filter has judged them.\n"
    categories = json.loads((folder / "out" / "annotations.json").read_text())["categories"]
    assert [(each["id"], each["name"]) for each in categories] == [(1, "1"), (2, "2")]


def test_the_formats_are_those_of_the_exports() -> None:
    assert _FORMATS == synthloader.exports.FORMATS


# ------------------------------------------------------------------------------------------------ all of them


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"], ["verify"], ["inspect"], ["compact"], ["merge"], ["prune", "--max-size", "1GB"],
        ["export", "out", "--format", "coco"],
    ],
)  # fmt: skip
def test_what_is_no_cache_is_said_in_one_line(folder: Path, arguments: list[str]) -> None:
    (folder / "photos").mkdir()
    (folder / "photos" / "a.jpg").touch()
    for wrong, reason in (
        ("nowhere", "there is no such folder (correct the path)"),
        ("recipe.yaml", "it is a file (name the folder of the cache)"),
        ("photos", "the folder holds no cache (correct the path, or fill it: synthloader precompute)"),
    ):
        command, *rest = arguments
        assert run(command, wrong, *rest) == (
            1,
            "",
            f"synthloader: error: Opening the cache {folder}/{wrong}: {reason}\n",
        )
    assert sorted(os.listdir(folder / "photos")) == ["a.jpg"]


@pytest.mark.parametrize(
    "arguments",
    [
        ["stats"],
        ["tidy", "cache"],
        ["inspect", "cache", "00", "--out", "a.gif"],
        ["inspect", "cache", "--out", "a.png"],
        ["prune", "cache"],
        ["prune", "cache", "--max-size", "10 XB"],
        ["export", "cache", "out"],
        ["export", "cache", "out", "--format", "coko"],
        ["export", "cache", "out", "--format", "coco", "--image-format", "gif"],
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    status, out, err = run(*arguments)
    assert (status, out) == (2, "")
    assert "Usage: " in err


@pytest.mark.parametrize("command", ["stats", "verify", "inspect", "merge", "compact", "export", "prune"])
def test_help_has_an_example(command: str) -> None:
    status, out, _ = run(command, "--help")
    assert status == 0
    assert f"Example: synthloader cache {command} cache/" in " ".join(out.split())


def test_readers_work_while_another_process_writes_and_writers_say_who_it_is(folder: Path) -> None:
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
        assert run("stats", "cache")[0] == run("verify", "cache")[0] == run("inspect", "cache", "3031")[0] == 0
        assert run("export", "cache", "out", "--format", "coco")[0] == 0
        assert run("merge", "all", "cache")[0] == 0
        for arguments in (["compact", "cache"], ["prune", "cache", "--max-size", "1B", "--yes"], ["merge", "cache"]):
            status, _, err = run(*arguments)
            assert status == 1
            assert err.startswith(f"synthloader: error: Writing to the cache {folder}/cache: process {other.pid} on ")
            assert err.count("\n") == 1
    other.wait(30)


def test_a_cut_file_is_said_in_one_line(folder: Path) -> None:
    os.truncate(folder / "cache" / "data.mdb", 20_000)
    status, out, err = run("inspect", "cache")
    assert (status, out) == (1, "")
    assert re.fullmatch(r"synthloader: error: Opening the cache .*: data\.mdb has 20000 bytes of \d+: .*\n", err)
    status, out, err = run("verify", "cache")
    remedy = "restore its data.mdb from a copy, or delete it and fill the cache again"
    assert (status, err) == (1, f"What cannot be opened cannot be taken out: {remedy}.\n")
    assert out.startswith("broken environment in cache: data.mdb has 20000 bytes of ")


def test_ctrl_c_is_status_130(monkeypatch: pytest.MonkeyPatch) -> None:
    def interrupt(*arguments: Any, **options: Any) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(sys.modules["synthloader.cache.upkeep.verify"], "verify", interrupt)
    assert run("verify", "cache") == (130, "", "\nsynthloader: stopped; run the same command again to go on\n")


def test_columns_wrap_and_line_up() -> None:
    assert write_facts([("a", "x " * 20), ("longer", "y"), ("none", "")], width=40) == (
        "a       x x x x x x x x x x x x x x x x\n        x x x x\nlonger  y"
    )
    assert write_table(["n", "text"], [[1000, "a"], [2, "b " * 30]], width=30, most=2).splitlines()[:3] == [
        "      n  text",
        "  1,000  a",
        "      2  b b b b b b b b b b b",
    ]
    assert write_table(["n", "text"], [[1, "a"], [2, "b"]], width=40, most=1).splitlines()[-1] == (
        "  ... and 1 more (--json lists all)"
    )
    assert show_value("a\x1b[31m\nb" + "c" * 300) == "a [31m b" + "c" * 189 + "..."


def test_the_width_is_the_terminals_within_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    for columns, wanted in (("10", 40), ("80", 80), ("500", 110)):
        monkeypatch.setenv("COLUMNS", columns)
        assert find_width() == wanted


@pytest.mark.parametrize(
    ("text", "wanted"),
    [("0", 0), ("10GB", 10**10), ("1.5 MiB", 3 << 19), ("2k", 2000), ("3tb", 3 * 10**12), (" 7 B ", 7)],
)
def test_sizes_are_read(text: str, wanted: int) -> None:
    assert parse_bytes(text) == wanted


@pytest.mark.parametrize("text", ["", "GB", "-1GB", "1e3", "10 XB", "1,5GB", "nan", "1 0"])
def test_what_is_no_size_is_refused(text: str) -> None:
    message = f"max_size must be a number with a unit, got max_size={text!r}. Write 10GB, 500MB, 2GiB."
    with pytest.raises(ValueError, match=f"^{re.escape(message)}$"):
        parse_bytes(text)
