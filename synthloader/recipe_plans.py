"""The key `plan` of a recipe: add, replace, only, balance, schedule."""

from __future__ import annotations

from collections.abc import Callable

from synthloader.checks import show_value, suggest_name
from synthloader.plans import Add, Balance, Only, Plan, Replace, Schedule
from synthloader.recipe_document import Place
from synthloader.recipe_plugins import build, read_options

__all__ = ["EXAMPLES", "PLANS", "read_plan"]

PLANS: dict[str, type] = {"add": Add, "balance": Balance, "only": Only, "replace": Replace, "schedule": Schedule}
"""Plans by the names that recipes have for them."""

EXAMPLES = {"add": "0.5", "replace": "1.0", "balance": "{to: 1.0}", "schedule": "{0: only, 20: {add: 0}}"}
"""What is written after the name of a plan that takes a value."""


def read_plan(place: Place) -> Plan:
    """A plan: `only`, `{add: 0.5}`, `{replace: {share: 0.5}}`, `{balance: {to: 1.0}}`, `{schedule: {0: only}}`.

    Raises:
        RecipeError: There is no such plan, or a value is refused.
    """
    if place.is_mapping:
        pairs = list(place.pairs())
        if len(pairs) != 1:
            names = ", ".join(str(key.value) for key, _ in pairs) or "none"
            place.fail(f"{place.way} must have one name, got {names}. To change it during a run, use schedule.")
        key, value = pairs[0]
    else:
        key, value = place, place
    name = key.value
    if not isinstance(name, str) or name not in _READERS:
        key.fail(f"there is no plan {show_value(name)}. {suggest_name(str(name), _READERS)}")
    if value is place and name != "only":
        place.fail(f"{place.way}.{name} needs a value. Write {{{name}: {EXAMPLES[name]}}}.")
    return _READERS[name](value)


def _read_add(place: Place) -> Plan:
    return place.convert(Add)


def _read_replace(place: Place) -> Plan:
    if place.is_mapping:
        entries = place.entries("options")
        if list(entries) == ["share"]:
            return entries["share"].convert(Replace.share)
    return place.convert(Replace)


def _read_only(place: Place) -> Plan:
    if place.value not in (None, "only", {}):
        place.fail(f"{place.way} takes no value, got {show_value(place.value)}. It is generated samples only.")
    return Only()


def _read_balance(place: Place) -> Plan:
    if not place.is_mapping:
        return place.convert(Balance)
    options = place.entries("options")
    values = read_options(place, options, Balance)
    made: Plan = build(place, lambda: Balance(**values), options=options)
    return made


def _read_schedule(place: Place) -> Plan:
    if not place.is_mapping:
        place.fail(f"{place.way} must be a mapping of epochs to plans. Write {{0: only, 20: {{add: 0}}}}.")
    plans = {key.value: read_plan(value) for key, value in place.pairs()}
    made: Plan = build(place, lambda: Schedule(plans))
    return made


_READERS: dict[str, Callable[[Place], Plan]] = {
    "add": _read_add,
    "balance": _read_balance,
    "only": _read_only,
    "replace": _read_replace,
    "schedule": _read_schedule,
}
