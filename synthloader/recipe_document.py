"""A YAML file whose every value knows its line: what recipes are read from."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn, TypeVar

import yaml

from synthloader.checks import show_value, suggest_name
from synthloader.errors import RecipeError

__all__ = ["Place", "read_document"]

Made = TypeVar("Made")

REPEATABLE = "one_of"
"""The key below which keys are weights, two of which may be equal."""


@dataclass(frozen=True, eq=False)
class Place:
    """A value of the document, the way to it, and its line.

    Args:
        file: The document.
        node: The value as YAML has it.
        way: The keys that lead to it: `"generator.copy_paste"`; empty for the document itself.
    """

    file: Path
    node: yaml.Node
    way: str = ""

    @property
    def line(self) -> int:
        """The line on which the value begins, counted from 1."""
        return int(self.node.start_mark.line) + 1

    @property
    def is_empty(self) -> bool:
        """Whether nothing was written after the key."""
        return self.node.tag == "tag:yaml.org,2002:null"

    @property
    def is_mapping(self) -> bool:
        """Whether it is a mapping."""
        return isinstance(self.node, yaml.MappingNode)

    @property
    def is_list(self) -> bool:
        """Whether it is a list."""
        return isinstance(self.node, yaml.SequenceNode)

    @property
    def value(self) -> Any:
        """The value as plain Python: numbers, strings, lists, dicts."""
        try:
            return _construct(self.node)
        except yaml.YAMLError as error:
            self.fail(_describe(error))

    def word(self, message: str) -> RecipeError:
        """The error that names file and line."""
        return RecipeError(f"{self.file}, line {self.line}: {message}")

    def fail(self, message: str) -> NoReturn:
        """Raise it."""
        raise self.word(message)

    def follow(self, key: str, node: yaml.Node) -> Place:
        """The place below this one."""
        return Place(self.file, node, f"{self.way}.{key}" if self.way else key)

    def pairs(self) -> Iterator[tuple[Place, Place]]:
        """Key and value of a mapping, in order."""
        for key, node in self.node.value:
            if key.tag == "tag:yaml.org,2002:merge":
                Place(self.file, key).fail("merge keys (<<) are not read in recipes. Write the options out.")
            place = Place(self.file, key, self.way)
            yield place, self.follow(str(place.value), node)

    def entries(self, what: str) -> dict[str, Place]:
        """The values of a mapping by their keys, which are names.

        Args:
            what: What the mapping is for, should it be none: `"options"`.
        """
        if self.is_empty:
            return {}
        if not self.is_mapping:
            self.fail(f"{self.way or 'the recipe'} must be a mapping of {what}, got {show_value(self.value)}.")
        found = {}
        for key, value in self.pairs():
            name = key.value
            if not isinstance(name, str):
                key.fail(f"{self.way or 'the recipe'} must have names for keys, got {show_value(name)}.")
            found[name] = value
        return found

    def items(self) -> list[Place]:
        """The values of a list."""
        return [Place(self.file, node, self.way) for node in self.node.value]

    def refuse_others(self, allowed: Iterable[str], what: str) -> None:
        """Refuse a key that is not allowed, on its own line, and suggest the nearest."""
        names = list(allowed)
        if self.is_mapping:
            for key, _ in self.pairs():
                if key.value not in names:
                    owner = self.way or "the recipe"
                    key.fail(f"{owner} has no {what} {key.value!r}. {suggest_name(str(key.value), names)}")

    def convert(self, make: Callable[[Any], Made]) -> Made:
        """What `make` makes of the value; its complaint gets file and line."""
        try:
            return make(self.value)
        except (ValueError, TypeError, OSError) as error:
            raise self.word(str(error)) from error


def read_document(path: Path, /) -> Place:
    """Read a YAML file; nothing in it is run, and no key may stand twice.

    Raises:
        FileNotFoundError: There is no such file.
        RecipeError: It is no YAML, is empty, or says something twice.
    """
    if not path.is_file():
        raise FileNotFoundError(f"the recipe {path} does not exist. Check the path.")
    try:
        root = yaml.compose(path.read_text(encoding="utf-8"), Loader=yaml.SafeLoader)
    except UnicodeDecodeError as error:
        raise RecipeError(f"{path}: not a text in UTF-8 ({error.reason}). Save it as UTF-8.") from error
    except yaml.YAMLError as error:
        mark = getattr(error, "problem_mark", None)
        at = f", line {mark.line + 1}" if mark is not None else ""
        raise RecipeError(f"{path}{at}: {_describe(error)}") from error
    if root is None:
        raise RecipeError(f"{path}: the recipe is empty. It needs at least the keys source and generator.")
    document = Place(path, root)
    _refuse_repeats(document, set(), repeatable=False)
    return document


def _refuse_repeats(place: Place, seen: set[int], *, repeatable: bool) -> None:
    """Refuse keys that stand twice, where the later one would win in silence."""
    if id(place.node) in seen:
        return  # an alias, or a circle of them
    seen.add(id(place.node))
    if place.is_list:
        for item in place.items():
            _refuse_repeats(item, seen, repeatable=False)
    elif place.is_mapping:
        first: dict[str, int] = {}
        for key, value in place.pairs():
            text = repr(key.value)
            if text in first and not repeatable:
                key.fail(f"{key.value!r} stands twice, first in line {first[text]}. Remove one of the two.")
            first.setdefault(text, key.line)
            _refuse_repeats(value, seen, repeatable=key.value == REPEATABLE)


def _construct(node: yaml.Node) -> Any:
    loader = yaml.SafeLoader("")
    try:
        return loader.construct_object(node, deep=True)
    finally:
        loader.dispose()


def _describe(error: yaml.YAMLError) -> str:
    """What is wrong with the YAML, without the excerpt of the file."""
    problem = getattr(error, "problem", None) or str(error)
    context = getattr(error, "context", None)
    text = f"{context}: {problem}" if context else problem
    return f"this is no valid YAML: {text}."
