"""Recipes: what they give, and what is said about a wrong one."""

from __future__ import annotations

import inspect
import re
from importlib.metadata import EntryPoint
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from synthloader import registry
from synthloader.cli.cache.recipes import read_wanted
from synthloader.errors import CacheError, RecipeError
from synthloader.generators import (
    Cached,
    Chain,
    ColorTransfer,
    CopyPaste,
    MetadataAlignment,
    OneOf,
    Sometimes,
)
from synthloader.plans import Add, Balance, Only, Replace, Schedule
from synthloader.precompute import precompute
from synthloader.recipe import Recipe, load_recipe
from tests.scenes import Shade, describe, write_coco

RECIPE = """\
source:
  format: coco
  images: data/images
  annotations: data/annotations.json
generator:
  - copy_paste: {num_range: [1, 2], min_visible: 0.3}
  - one_of:
      0.5: {color_transfer: {references: data/images}}
      0.5: color_transfer
filters:
  - min_box: {min_side: 2}
plan: {add: 0.5}
variants: 4
attempts: 2
on_shortfall: repeat
cache: {path: cache/train, codec: raw}
seed: 7
"""
GENERATORS = ", ".join(sorted([*registry.list_plugins("generators"), "one_of"]))


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    write_coco(tmp_path / "data", 6)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write(text: str) -> str:
    Path("recipe.yaml").write_text(text)
    return "recipe.yaml"


def load(old: str = "", new: str = "", text: str = RECIPE) -> Recipe:
    assert old in text
    return load_recipe(write(text.replace(old, new, 1) if old else text))


def test_everything_that_a_recipe_says_can_be_read(folder: Path) -> None:
    recipe = load()
    assert isinstance(recipe.generator, Chain)
    paste, choice = recipe.generator.generators
    assert isinstance(paste, CopyPaste)
    assert isinstance(choice, OneOf)
    assert choice.weights == (0.5, 0.5)
    assert [type(part) for part in choice.generators] == [ColorTransfer, ColorTransfer]
    assert [part.uses_pool for part in choice.generators] == [False, True]  # type: ignore[attr-defined]
    assert [kind.fingerprint for kind in recipe.filters] == ['MinBox/1(drop="instances", min_area=10.0, min_side=2.0)']
    assert (recipe.plan, recipe.variants, recipe.attempts, recipe.seed) == (Add(0.5), 4, 2, 7)
    assert (recipe.on_shortfall, recipe.version, recipe.path) == ("repeat", None, Path("recipe.yaml"))
    generated = recipe.generated()
    assert len(recipe.source()) == 6
    assert generated.dataset is recipe.source()
    assert len(generated) == 24
    assert (generated.attempts, generated.seed) == (2, 7)
    assert generated.cache.path == folder / "cache" / "train"  # type: ignore[union-attr]
    mixed = recipe.mixed()
    assert (len(mixed), mixed.seed, mixed.on_shortfall) == (9, 7, "repeat")
    assert mixed.sets[0].dataset is generated


def test_the_same_from_python_gives_the_same_samples(folder: Path) -> None:
    from synthloader.adapters import CocoDataset
    from synthloader.filters import MinBox
    from synthloader.generated import GeneratedDataset
    from synthloader.mixed import MixedDataset

    text = RECIPE.replace("cache: {path: cache/train, codec: raw}\n", "")
    mixed = load(text=text).mixed()
    real = CocoDataset("data/images", "data/annotations.json")
    choice = OneOf([(0.5, ColorTransfer(references="data/images")), (0.5, ColorTransfer())])
    chain = Chain([CopyPaste(num_range=(1, 2), min_visible=0.3), choice])
    generated = GeneratedDataset(real, chain, filters=[MinBox(min_side=2)], variants=4, attempts=2, seed=7)
    wanted = MixedDataset(real, generated, ratio=0.5, seed=7, on_shortfall="repeat")
    assert [describe(mixed[index]) for index in range(9)] == [describe(wanted[index]) for index in range(9)]


def test_an_option_that_is_a_generator_is_written_as_the_recipes_own() -> None:
    generator = load(
        "- copy_paste: {num_range: [1, 2], min_visible: 0.3}",
        """\
- cached:
      generator:
        - copy_paste: {num_range: [1, 2]}
        - sometimes: {probability: 0.25, generator: color_transfer}
  - sometimes:
      generator:
        one_of:
          0.5: {color_transfer: {references: data/images}}
          0.5: color_transfer""",
    ).generator
    assert isinstance(generator, Chain)
    cached, sometimes, choice = generator.generators
    assert isinstance(cached, Cached)
    assert isinstance(cached.generator, Chain)
    assert cached.generator.generators[0].fingerprint == CopyPaste(num_range=(1, 2)).fingerprint
    assert repr(cached.generator.generators[1]) == repr(Sometimes(ColorTransfer(), probability=0.25))
    assert isinstance(sometimes, Sometimes)
    assert isinstance(sometimes.generator, OneOf)
    assert sometimes.probability == 0.5
    assert [part.uses_pool for part in sometimes.generator.generators] == [False, True]  # type: ignore[attr-defined]
    assert isinstance(choice, OneOf)


def test_an_option_that_is_a_dataset_is_written_as_the_recipes_own(folder: Path) -> None:
    pytest.importorskip("sklearn")
    from synthloader.adapters import CocoDataset
    from synthloader.sources import Source

    write_coco(folder / "target", 3)
    reference = "{format: coco, images: target/images, annotations: target/annotations.json}"
    paste = "- copy_paste: {num_range: [1, 2], min_visible: 0.3}"
    nested = "- metadata_alignment: {generator: copy_paste, attributes: [box_area], reference: REFERENCE}"
    made = load(paste, nested.replace("REFERENCE", reference)).generator
    assert isinstance(made, Chain)
    target = Source(CocoDataset("target/images", "target/annotations.json"))
    wanted = MetadataAlignment(CopyPaste(), target, attributes=["box_area"])
    other = MetadataAlignment(CopyPaste(), list(target)[:1], attributes=["box_area"])
    assert made.generators[0].fingerprint == wanted.fingerprint != other.fingerprint
    with pytest.raises(RecipeError) as caught:
        load(paste, nested.replace("REFERENCE", reference.replace("target/images", "targets")))
    assert str(caught.value) == (
        f"recipe.yaml, line 6: generator.metadata_alignment.reference.images must exist, got 'targets', which is "
        f"{folder}/targets. Paths are relative to the recipe."
    )


def test_a_cache_is_asked_for_what_stands_before_the_mark(folder: Path) -> None:
    text = RECIPE.replace("- copy_paste: {num_range: [1, 2], min_visible: 0.3}", "- cached: {generator: copy_paste}")
    recipe = load(text=text)
    generated = recipe.generated()
    wanted = read_wanted(Path("recipe.yaml"))
    kept = generated.find_kept_fingerprint()
    assert kept.startswith("CopyPaste/")
    assert (wanted.fingerprints, wanted.filters) == (frozenset({kept}), "")
    precompute(generated, progress=False)
    keys = list(generated.cache)  # type: ignore[arg-type]
    assert keys
    for key in keys:
        entry: Any = generated.cache.get(key)  # type: ignore[union-attr]
        assert wanted.served(key, entry.origin)


def test_a_plan_with_a_cap_says_which_donors_are_to_be_cached(folder: Path) -> None:
    recipe = load("{add: 0.5}", "{balance: {to: 9, classes: [coin], cap: 4}}")
    draws = recipe.list_rationed()
    assert recipe.target_classes() == ()
    assert draws
    generated = recipe.generated()
    assert precompute(generated, draws=draws, progress=False).total == len(draws)
    wanted = read_wanted(Path("recipe.yaml"))
    for key in generated.cache:  # type: ignore[union-attr]
        entry: Any = generated.cache.get(key)  # type: ignore[union-attr]
        assert entry.origin.fingerprint in wanted.fingerprints
        assert wanted.served(key, entry.origin)
    before = len(generated.cache)  # type: ignore[arg-type]
    mixed = recipe.mixed()
    for epoch in range(3):
        mixed.set_epoch(epoch)
        for index in range(6, len(mixed)):
            mixed.origin(index)
    assert len(generated.cache) == before  # type: ignore[arg-type]


def test_transforms_are_applied_to_real_and_generated_items_alike() -> None:
    def halve(image: Any, target: Any) -> Any:
        return image[:, ::2], target

    text = RECIPE.replace("cache: {path: cache/train, codec: raw}\n", "")
    mixed, bare = load(text=text).mixed(halve), load(text=text).mixed()
    for index in (0, 8):
        assert mixed[index][0].shape[1] * 2 == bare[index][0].shape[1]


def test_paths_are_relative_to_the_recipe_and_not_to_the_working_directory(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write(RECIPE)
    elsewhere = folder / "elsewhere"
    elsewhere.mkdir()
    monkeypatch.chdir(elsewhere)
    recipe = load_recipe("../recipe.yaml")
    assert len(recipe.source()) == 6
    assert recipe.generated().cache.path == folder / "cache" / "train"  # type: ignore[union-attr]


def test_sources_and_pool_may_be_other_datasets(folder: Path) -> None:
    write_coco(folder / "other", 3)
    other = "{format: coco, images: other/images, annotations: other/annotations.json}"
    recipe = load(text=RECIPE + f"sources: {other}\npool: {other}\n")
    generated = recipe.generated()
    assert (len(generated.source), len(generated.pool), len(recipe.source())) == (3, 3, 6)


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("generator: color_transfer", ColorTransfer),
        ("generator: {copy_paste: {}}", CopyPaste),
        ("generator:\n  copy_paste:", CopyPaste),
        ("generator: [color_transfer]", ColorTransfer),
        ("generator: [color_transfer, copy_paste]", Chain),
        ("generator: {one_of: {2: copy_paste, 1: [copy_paste, color_transfer]}}", OneOf),
    ],
)
def test_ways_to_write_a_generator(text: str, kind: type) -> None:
    source = RECIPE[: RECIPE.index("generator:")]
    assert type(load(text=f"{source}{text}\n").generator) is kind


@pytest.mark.parametrize(
    ("text", "plan"),
    [
        ("{add: 2}", Add(2)),
        ("{add: {generated: 0.5}}", Add({"generated": 0.5})),
        ("{replace: 0.5}", Replace(0.5)),
        ("{replace: {share: 0.25}}", Replace.share(0.25)),
        ("only", Only()),
        ("{only: }", Only()),
        ("{balance: 30}", Balance(30)),
        (
            "{balance: {to: 1.0, count: instances, classes: [coin, 3], cap: 2}}",
            Balance(1.0, "instances", ("coin", 3), 2),
        ),
        ("{schedule: {0: only, 20: {add: 0}}}", Schedule({0: Only(), 20: Add(0)})),
    ],
)
def test_ways_to_write_a_plan(text: str, plan: object) -> None:
    assert load("{add: 0.5}", text).plan == plan


def test_the_classes_that_a_balance_plan_aims_at() -> None:
    assert load().target_classes() == ()
    table = load("{add: 0.5}", "{balance: {to: 1.0}}").generated().source.class_table.count("images")
    largest = max(table.values())
    wanted = tuple(class_id for class_id, count in table.items() if count < largest)
    assert load("{add: 0.5}", "{balance: {to: 1.0}}").target_classes() == wanted


def test_packages_of_others_are_found_through_entry_points(monkeypatch: pytest.MonkeyPatch) -> None:
    entry = EntryPoint("shade", "tests.scenes:Shade", "synthloader.generators")
    monkeypatch.setattr(registry, "entry_points", lambda group: [entry] if group == entry.group else [])
    recipe = load("- copy_paste: {num_range: [1, 2], min_visible: 0.3}", "- shade: {strength: 3}")
    assert isinstance(recipe.generator, Chain)
    assert isinstance(recipe.generator.generators[0], Shade)


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "num_range",
            "num_rnage",
            "line 6: generator.copy_paste has no option 'num_rnage'. Did you mean 'num_range'? Allowed: "
            f"{', '.join(sorted(set(inspect.signature(CopyPaste).parameters) - set(CopyPaste.NOT_IN_RECIPES)))}.",
        ),
        (
            "generator:",
            "genrator:",
            "line 5: the recipe has no key 'genrator'. Did you mean 'generator'? Allowed: attempts, cache, filters, "
            "generator, license, on_shortfall, plan, pool, seed, source, sources, variants, version.",
        ),
        (
            "copy_paste",
            "copy_pste",
            f"line 6: there is no generator 'copy_pste'. Did you mean 'copy_paste'? Allowed: {GENERATORS}.",
        ),
        (
            "copy_paste: {num_range: [1, 2], min_visible: 0.3}",
            "os.system: {command: ls}",
            f"line 6: there is no generator 'os.system'. Allowed: {GENERATORS}.",
        ),
        (
            "[1, 2]",
            "[2, 1]",
            "line 6: generator.copy_paste: num_range must have low <= high, got num_range=[2, 1]. Exchange the two "
            "numbers.",
        ),
        (
            "{num_range: [1, 2], min_visible: 0.3}",
            "\n      flip: true\n      min_visible: 1.5",
            "line 8: generator.copy_paste: min_visible must be at most 1, got min_visible=1.5.",
        ),
        (
            "copy_paste: {num_range: [1, 2], min_visible: 0.3}",
            "copy_paste: 3",
            "line 6: generator.copy_paste must be a mapping of options, got 3.",
        ),
        (
            "num_range: [1, 2]",
            "flip: true, flip: false",
            "line 6: 'flip' stands twice, first in line 6. Remove one of the two.",
        ),
        (
            "  - copy_paste: {num_range: [1, 2], min_visible: 0.3}\n  - one_of",
            "  - copy_paste: {}\n    one_of",
            "line 6: an entry of generator must have one name, got copy_paste, one_of. Write a dash before each.",
        ),
        (
            "0.5: color_transfer",
            "0: color_transfer",
            "line 8: generator.one_of: weights[1] must be above 0, got weights[1]=0.0. Leave out what is never to be "
            "drawn.",
        ),
        (
            "one_of:\n      0.5: {color_transfer: {references: data/images}}\n      0.5: color_transfer",
            "one_of: color_transfer",
            "line 7: generator.one_of must be a mapping of weights to generators. Write 0.5: {copy_paste: {}}.",
        ),
        (
            "min_side",
            "minside",
            "line 11: filters.min_box has no option 'minside'. Did you mean 'min_side'? Allowed: drop, min_area, "
            "min_side.",
        ),
        (
            "- min_box: {min_side: 2}",
            "min_box: {min_side: 2}",
            "line 11: filters must be a list, got {'min_box': {'min_side': 2}}. Write a dash before each filter.",
        ),
        (
            "{add: 0.5}",
            "{ad: 0.5}",
            "line 12: there is no plan 'ad'. Did you mean 'add'? Allowed: add, balance, only, replace, schedule.",
        ),
        (
            "{add: 0.5}",
            "{add: -0.5}",
            "line 12: ratio must be at least 0, got ratio=-0.5. It is the number of generated samples per real sample: "
            "0.5 adds one for every two.",
        ),
        ("{add: 0.5}", "add", "line 12: plan.add needs a value. Write {add: 0.5}."),
        (
            "{add: 0.5}",
            "{add: 1, only: }",
            "line 12: plan must have one name, got add, only. To change it during a run, use schedule.",
        ),
        ("{add: 0.5}", "{replace: {share: 2}}", "line 12: share must be at most 1, got share=2."),
        ("{add: 0.5}", "{only: 3}", "line 12: plan.only takes no value, got 3. It is generated samples only."),
        (
            "{add: 0.5}",
            "{balance: {too: 1.0}}",
            "line 12: plan.balance has no option 'too'. Did you mean 'to'? Allowed: cap, classes, count, to.",
        ),
        (
            "{add: 0.5}",
            "{schedule: {5: only}}",
            "line 12: plan.schedule: plans must have a plan for epoch 0, got plans=[5]. Epochs before the first key "
            "would have none.",
        ),
        ("variants: 4", "variants: 0", "line 13: variants must be at least 1, got variants=0."),
        ("seed: 7", "seed: seven", "line 17: seed must be an integer, got seed='seven'."),
        (
            "on_shortfall: repeat",
            "on_shortfall: repaet",
            "line 15: on_shortfall must be one of 'real', 'repeat', 'error', got on_shortfall='repaet'. Did you mean "
            "'repeat'?",
        ),
        (
            "seed: 7",
            "version: 3",
            "line 17: version must be a str, got version=3. Write it in quotes.",
        ),
        (
            "format: coco",
            "format: cocoo",
            "line 2: there is no format 'cocoo'. Did you mean 'coco'? Allowed: backgrounds, coco, imagefolder, images, masks, voc, yolo.",
        ),
        (
            "  format: coco\n",
            "",
            "line 2: source needs the option 'format', one of: backgrounds, coco, imagefolder, images, masks, voc, yolo.",
        ),
        (
            "images:",
            "image:",
            "line 3: source has no option 'image'. Did you mean 'images'? Allowed: annotations, format, images.",
        ),
        (
            "  images: data/images\n",
            "",
            "line 2: source needs the option 'images'. Allowed: annotations, images.",
        ),
        (
            "cache: {path: cache/train, codec: raw}",
            "cache: {path: cache/train, size: 3}",
            "line 16: cache has no option 'size'. Allowed: codec, map_size_bytes, on_corrupt, path, readonly.",
        ),
        (
            "cache: {path: cache/train, codec: raw}",
            "cache: 3",
            "line 16: cache must be a path or a mapping with a path, got 3.",
        ),
        (
            "seed: 7",
            "seed: 7\nseed: 8",
            "line 18: 'seed' stands twice, first in line 17. Remove one of the two.",
        ),
        (
            "[1, 2]",
            "[1, 2",
            "line 6: this is no valid YAML: while parsing a flow sequence: expected ',' or ']', but got '}'.",
        ),
        (
            "seed: 7",
            "seed: !!python/object/apply:os.getpid []",
            "line 17: this is no valid YAML: could not determine a constructor for the tag "
            "'tag:yaml.org,2002:python/object/apply:os.getpid'.",
        ),
        (
            "{min_side: 2}",
            "{<<: {min_side: 2}}",
            "line 11: merge keys (<<) are not read in recipes. Write the options out.",
        ),
    ],
)
def test_what_is_said_about_a_wrong_recipe(old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(old, new)
    assert str(caught.value) == f"recipe.yaml, {message}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "data/annotations.json",
            "data/anotations.json",
            "line 4: source.annotations must exist, got 'data/anotations.json', which is {folder}/data/anotations.json. "
            "Paths are relative to the recipe.",
        ),
        (
            "references: data/images",
            "references: data/targets",
            "line 8: generator.one_of.color_transfer: references must exist, got "
            "references='{folder}/data/targets'. Check the path.",
        ),
    ],
)
def test_a_missing_file_is_said_with_its_line(folder: Path, old: str, new: str, message: str) -> None:
    with pytest.raises(RecipeError) as caught:
        load(old, new)
    assert str(caught.value) == f"recipe.yaml, {message.format(folder=folder)}"


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        (
            "{add: 0.5}",
            "{add: {paste: 0.5}}",
            "recipe.yaml, line 12: ratio must name the generated sets, got ratio='paste'. Allowed: generated.",
        ),
        (
            "{add: 0.5}",
            "{balance: {to: 1.0, classes: [coyn]}}",
            "recipe.yaml, line 12: classes must be known to the dataset, got classes='coyn'. Did you mean 'coin'? "
            "Allowed: cell, coin, disc.",
        ),
        (
            "plan: {add: 0.5}\n",
            "",
            "recipe.yaml: the recipe needs the key 'plan' to mix. Add, for example, `plan: {add: 0.5}`.",
        ),
        (
            "variants: 4\n",
            "",
            "recipe.yaml, line 6: variants must be given with a persistent cache, got variants=None. variants=None "
            "makes fresh samples for ever, which no cache can hold: pass variants=4, say.",
        ),
        (
            "raw",
            "jpg",
            "recipe.yaml, line 16: cache: codec must be one of 'raw', 'zstd', 'jpeg', 'jpeg-444', got codec='jpg'. Did you mean 'jpeg'?",
        ),
    ],
)
def test_what_does_not_go_together_is_said_when_it_is_opened(old: str, new: str, message: str) -> None:
    recipe = load(old, new)
    with pytest.raises(RecipeError) as caught:
        recipe.mixed()
    assert str(caught.value) == message


def test_wrong_annotations_are_said_with_the_line_of_the_option_that_can_mend_them(folder: Path) -> None:
    (folder / "data" / "images" / "scene_003.png").unlink()
    with pytest.raises(RecipeError) as caught:
        load().source()
    assert str(caught.value) == (
        f"recipe.yaml, line 3: source: images[3]['file_name'] must name a file below {folder}/data/images, got "
        f"'scene_003.png'. Correct images=, the folder that the names in {folder}/data/annotations.json are relative to, "
        "or bring the missing files."
    )


def test_a_cache_that_cannot_be_written_is_said_as_everywhere(folder: Path) -> None:
    (folder / "cache").write_text("a file")
    with pytest.raises(CacheError) as caught:
        load().generated()
    assert str(caught.value) == f"Opening the cache {folder}/cache/train: {folder}/cache is a file (choose a folder)"


def test_recipes_that_are_none() -> None:
    with pytest.raises(FileNotFoundError, match=re.escape("the recipe nothing.yaml does not exist. Check the path.")):
        load_recipe("nothing.yaml")
    for content, message in (
        (b"", "recipe.yaml: the recipe is empty. It needs at least the keys source and generator."),
        (b"\xff\xfe\x00", "recipe.yaml: not a text in UTF-8 (invalid start byte). Save it as UTF-8."),
        (b"- source", "recipe.yaml, line 1: the recipe must be a mapping of keys, got ['source']."),
        (
            b"generator: copy_paste",
            "recipe.yaml, line 1: the recipe needs the key 'source'. Allowed: attempts, cache, filters, generator, "
            "license, on_shortfall, plan, pool, seed, source, sources, variants, version.",
        ),
    ):
        Path("recipe.yaml").write_bytes(content)
        with pytest.raises(RecipeError) as caught:
            load_recipe("recipe.yaml")
        assert str(caught.value) == message


def test_a_hit_and_a_miss_through_a_recipe_are_the_same_bits() -> None:
    recipe = load()
    generated = recipe.generated()
    first = generated.sample(3)
    second = generated.sample(3)
    assert np.array_equal(first.image, second.image)
    assert len(generated.cache) > 0  # type: ignore[arg-type]
    generated.cache.close()  # type: ignore[union-attr]
