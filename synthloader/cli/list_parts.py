"""`synthloader list`: what a recipe can name, with options, read from the parts themselves."""

from __future__ import annotations

import inspect
import json
from collections.abc import Iterator
from typing import Annotated, Any, NamedTuple

import typer

__all__ = ["Part", "list_parts", "read_parts", "write_page"]

GROUPS = {
    "generators": "make a sample of a sample; a list is applied in order, `one_of: {0.7: ..., 0.3: ...}` draws one",
    "filters": "judge what was generated",
    "plans": "say which items of an epoch are generated",
    "formats": "are what `source:`, `sources:` and `pool:` read",
}
"""What a recipe names, and what these things do."""

_NOT_IN_RECIPES = frozenset({"transforms", "transform", "target_transform"})
_NEEDED = " (needed)"


class Part(NamedTuple):
    """One thing that a recipe can name.

    Attributes:
        group: One of `GROUPS`.
        name: As recipes write it.
        summary: One line.
        options: As recipes write them: with the default, or `(needed)`; alone where the default is nothing. A plan has
            an example of itself first.
        text: All that its documentation says.
    """

    group: str
    name: str
    summary: str
    options: tuple[str, ...]
    text: str


def list_parts(
    name: Annotated[
        str | None, typer.Argument(help="Say everything about this one: copy_paste, min_box, coco.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print the list as one JSON array.")] = False,
    as_page: Annotated[bool, typer.Option("--markdown", help="Print the list as a page of Markdown.")] = False,
) -> None:
    """List the generators, filters, plans and formats that recipes can name, with their options and defaults.

    What other packages have registered is listed too.

    Example: synthloader list copy_paste
    """
    from synthloader.checks import reject, suggest_name
    from synthloader.cli.cache.columns import find_width, write_facts

    parts = list(read_parts())
    if name is not None:
        named = [*parts, read_choice()]
        parts = [part for part in named if part.name == name]
        if not parts:
            reject("name", "be one of the list", name, suggest_name(name, {part.name for part in named}))
    if as_json:
        typer.echo(json.dumps([part._asdict() for part in parts], indent=2))
    elif as_page:
        typer.echo(write_page(parts), nl=False)
    elif name is not None:
        said = (f"{part.group.removesuffix('s')} {part.name}\n\n{_show_options(part)}\n\n{part.text}" for part in parts)
        typer.echo("\n\n".join(said))
    else:
        for group, purpose in GROUPS.items():
            typer.echo(f"{group} {purpose}".replace("`", ""))
            mine = [part for part in parts if part.group == group]
            size = max((len(part.name) for part in mine), default=0)
            for part in mine:
                facts = [(part.name.ljust(size), part.summary), (" " * size, ", ".join(part.options))]
                typer.echo(_indent(write_facts(facts, width=find_width() - 2)))
            typer.echo("")
        typer.echo("synthloader list NAME says what the options of one mean.")


def read_parts() -> Iterator[Part]:
    """All of them, by group and name."""
    from synthloader.recipe_plans import EXAMPLES, PLANS
    from synthloader.registry import find_plugin, list_plugins

    for group in GROUPS:
        names = PLANS if group == "plans" else list_plugins(group)
        for name in sorted(names):
            made = PLANS[name] if group == "plans" else find_plugin(group, name)
            text, options = inspect.getdoc(made) or "", list(_read_options(made))
            if group == "plans":
                example = f"{name}: {EXAMPLES[name]}" if name in EXAMPLES else name
                options = [example, *(option for option in options if not option.endswith(_NEEDED))]
            yield Part(group, name, " ".join(text.partition("\n\n")[0].split()), tuple(options), text)


def read_choice() -> Part:
    """`one_of`, which recipes write around other generators."""
    from synthloader.generators.one_of import OneOf
    from synthloader.recipe_document import REPEATABLE

    text = inspect.getdoc(OneOf) or ""
    options = ("0.7: {night: {}}", "0.3: {rain: {}} (any weights, which may be equal, and generators)")
    return Part("generators", REPEATABLE, text.partition("\n\n")[0], options, text)


def write_page(parts: list[Part], /) -> str:
    """A page of Markdown: a table for each group."""
    lines = [
        "# What a recipe can name",
        "",
        "Written by `synthloader list --markdown`. `synthloader list copy_paste` says what the options of one mean. An",
        "option without a value has none unless it is given.",
    ]
    for group, purpose in GROUPS.items():
        lines += ["", f"## {group.capitalize()}", "", f"{group.capitalize()} {purpose}.", ""]
        lines += ["| name | what it is | options and defaults |", "|---|---|---|"]
        for part in parts:
            if part.group == group:
                options = ", ".join(f"`{option}`" for option in part.options)
                lines.append(f"| `{part.name}` | {part.summary} | {options or 'none'} |")
    return "\n".join(lines) + "\n"


def _read_options(made: Any) -> Iterator[str]:
    left_out = _NOT_IN_RECIPES | frozenset(getattr(made, "NOT_IN_RECIPES", ()))
    for name, parameter in inspect.signature(made).parameters.items():
        if name in left_out or name.startswith("_") or parameter.kind is parameter.POSITIONAL_ONLY:
            continue
        if parameter.kind in (parameter.VAR_KEYWORD, parameter.VAR_POSITIONAL):
            continue
        if parameter.default is parameter.empty:
            yield name + _NEEDED
        elif parameter.default is None:
            yield name
        else:
            yield f"{name}: {json.dumps(parameter.default, default=repr)}"


def _show_options(part: Part) -> str:
    return f"options: {', '.join(part.options) or 'none'}"


def _indent(text: str) -> str:
    return "\n".join(f"  {line}".rstrip() for line in text.splitlines())
