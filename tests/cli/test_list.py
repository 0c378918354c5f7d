"""`synthloader list`: what recipes can name, never out of date."""

from __future__ import annotations

import json
from pathlib import Path

from typer.testing import CliRunner

from synthloader.cli import app
from synthloader.cli.list_parts import read_parts
from synthloader.recipe import load_recipe
from synthloader.recipe_plans import _READERS, PLANS
from synthloader.registry import list_plugins

PAGE = Path(__file__).parents[2] / "docs" / "reference.md"


def call(*words: str) -> str:
    done = CliRunner().invoke(app, ["list", *words])
    assert done.exit_code == 0, done.output
    return done.stdout


def test_the_page_is_up_to_date() -> None:
    assert call("--markdown") == PAGE.read_text(encoding="utf-8"), "synthloader list --markdown > docs/reference.md"


def test_everything_that_recipes_can_name_is_listed_with_a_line_of_its_own() -> None:
    parts = list(read_parts())
    for group in ("generators", "filters", "formats"):
        assert {part.name for part in parts if part.group == group} == set(list_plugins(group))
    assert {part.name for part in parts if part.group == "plans"} == set(PLANS) == set(_READERS)
    assert all(part.summary for part in parts)


def test_options_are_shown_as_recipes_write_them() -> None:
    options = {part.name: part.options for part in read_parts()}
    assert options["copy_paste"][:3] == ("num_range: [1, 3]", "scale_range", "rotation_range: [-10.0, 10.0]")
    assert options["coco"] == ("images (needed)", "annotations (needed)")
    assert options["color_transfer"] == ("references", 'method: "reinhard"')
    assert not {"detector", "depth"} & {option for some in options.values() for option in some}
    assert options["replace"] == ("replace: 1.0",)
    assert options["balance"] == ("balance: {to: 1.0}", 'count: "images"', "classes", "cap")
    assert options["only"] == ("only",)


def test_all_are_said_in_words() -> None:
    said = call()
    for part in read_parts():
        assert f"\n  {part.name} " in said
    assert all(len(line) <= 80 for line in said.splitlines() if line.startswith(" "))


def test_one_is_said_in_full() -> None:
    said = call("min_box")
    assert said.startswith('filter min_box\n\noptions: min_side: 5, min_area: 10, drop: "instances"\n\nDrop instances')
    assert "Args:" in said
    (only,) = json.loads(call("min_box", "--json"))
    assert (only["group"], only["options"][0]) == ("filters", "min_side: 5")


def test_the_choice_between_generators_is_said_as_well() -> None:
    said = call("one_of")
    assert said.startswith("generator one_of\n\noptions: 0.7: {night: {}}, 0.3: {rain: {}} (any weights, ")
    assert "Draw one generator for each sample, by weight" in said
    assert "Args:" in said


def test_an_unknown_name_is_answered_with_the_nearest() -> None:
    done = CliRunner().invoke(app, ["list", "copypaste"])
    assert done.exit_code == 1
    assert "name must be one of the list, got name='copypaste'. Did you mean 'copy_paste'?" in done.stderr


def test_the_examples_of_plans_are_read(tmp_path: Path) -> None:
    (tmp_path / "train.json").write_text("{}")
    for part in read_parts():
        if part.group == "plans":
            recipe = tmp_path / f"{part.name}.yaml"
            plan = part.options[0] if part.name == "only" else f"{{{part.options[0]}}}"
            source = "source: {format: coco, images: ., annotations: train.json}"
            recipe.write_text(f"{source}\ngenerator: color_transfer\nplan: {plan}\n")
            assert type(load_recipe(recipe).plan) is PLANS[part.name]
