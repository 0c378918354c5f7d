"""The public surface, as text: what the package and its folders offer, with parameters, methods and properties."""

from __future__ import annotations

import importlib
import inspect
import pkgutil
import re
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import synthloader

GOLDEN = Path(__file__).parent / "public_surface.txt"


def list_public_modules() -> Iterator[ModuleType]:
    """Yield the package and its folders: what a single module lists is public only if the package offers it too."""
    yield synthloader
    for found in pkgutil.iter_modules(synthloader.__path__):
        if found.ispkg:
            yield importlib.import_module(f"synthloader.{found.name}")


def list_public_objects() -> Iterator[tuple[str, Any]]:
    """Yield every public name, from the module on, and what it stands for."""
    for module in list_public_modules():
        for name in sorted(getattr(module, "__all__", ())):
            yield f"{module.__name__}.{name}", getattr(module, name)


def format_signature(function: Any) -> str:
    """Give names, kinds and defaults of parameters. Annotations are the type checkers' business."""
    if inspect.isclass(function) and not any(map(inspect.isfunction, (function.__init__, function.__new__))):
        return "(...)"  # What the language gives such a class differs between its versions.
    signature = inspect.signature(function)
    bare = [parameter.replace(annotation=inspect.Parameter.empty) for parameter in signature.parameters.values()]
    text = str(signature.replace(parameters=bare, return_annotation=inspect.Signature.empty))
    return re.sub(r" at 0x[0-9a-f]+", "", text)


def describe_class(name: str, thing: type) -> Iterator[str]:
    """Yield the lines for a class: its bases, its parameters, and its own public members."""
    bases = ", ".join(base.__name__ for base in thing.__bases__ if base.__module__.partition(".")[0] != "builtins")
    yield f"class {name}{format_signature(thing)}" + (f" <- {bases}" if bases else "")
    for member, value in sorted(vars(thing).items()):
        if member.startswith("_"):
            continue
        if isinstance(value, (classmethod, staticmethod)):
            yield f"    {type(value).__name__} {member}{format_signature(getattr(thing, member))}"
        elif inspect.isfunction(value):
            yield f"    def {member}{format_signature(value)}"
        else:
            yield f"    {member}"


def describe_surface() -> str:
    """Describe everything public. What has several public names is described under the first."""
    lines: list[str] = []
    first_names: dict[int, str] = {}
    for name, thing in list_public_objects():
        first = first_names.setdefault(id(thing), name)
        if first != name and (inspect.isclass(thing) or inspect.isroutine(thing)):
            lines.append(f"{name} = {first}")
        elif inspect.isclass(thing):
            lines.extend(describe_class(name, thing))
        elif inspect.isroutine(thing):
            lines.append(f"def {name}{format_signature(thing)}")
        else:
            lines.append(name)
    return "\n".join(lines) + "\n"
