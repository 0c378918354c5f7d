"""Every exception that synthloader raises of its own.

```
SynthloaderError
├─ LabelContractError      a generator returned, or was asked for, a target that it does not keep
├─ GenerationError         carries index, fingerprint and seed
├─ NothingToGenerate       raised by a generator; counted like a rejection
├─ ShortfallError
├─ CacheError              what: reason (hint)
│  ├─ CacheFullError  CacheVersionError  CacheCorruptError  CacheLockedError
├─ RecipeError             the line of the recipe, what was wrong, what is allowed
└─ MissingExtraError       also ImportError
```

Wrong arguments raise `ValueError` or `TypeError`, worded by `synthloader.checks`. An exception that comes from
somebody else's code keeps its type and gains a note (`note_error`).
"""

from __future__ import annotations

import importlib
from contextlib import suppress
from types import ModuleType
from typing import Any

__all__ = [
    "CacheCorruptError",
    "CacheError",
    "CacheFullError",
    "CacheLockedError",
    "CacheVersionError",
    "GenerationError",
    "LabelContractError",
    "MissingExtraError",
    "NothingToGenerate",
    "RecipeError",
    "ShortfallError",
    "SynthloaderError",
    "import_extra",
    "note_error",
]


class SynthloaderError(Exception):
    """Base of every error that synthloader raises of its own."""


class LabelContractError(SynthloaderError):
    """A label would have become wrong: a generator was asked for, or returned, a target that it does not keep."""


class GenerationError(SynthloaderError):
    """A generator returned something that is not a usable sample.

    Attributes:
        index: Position in the generated dataset.
        fingerprint: Fingerprint of the generator.
        seed: Seed of the generated dataset.
    """

    def __init__(self, message: str, *, index: int = -1, fingerprint: str = "", seed: int = 0) -> None:
        super().__init__(message)
        self.index = index
        self.fingerprint = fingerprint
        self.seed = seed

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all attributes, so that the error arrives whole from a loader worker."""
        return _rebuild, (type(self), self.args, self.__dict__)


class NothingToGenerate(SynthloaderError):  # noqa: N818 - named in the design; it is a signal of generators
    """Raised by a generator that can make nothing from this source; counted like a rejection.

    Args:
        reason: A few words that name the cause (`"no donor"`). Reasons are counted, so keep them few.
    """

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class ShortfallError(SynthloaderError):
    """Fewer generated samples can be served than were asked for, and the policy is to stop."""


class CacheError(SynthloaderError):
    """A cache could not do what was asked.

    Args:
        what: What was tried, with the path.
        reason: Why it failed.
        hint: What the user can do.
    """

    def __init__(self, what: str, *, reason: str = "", hint: str = "") -> None:
        # Torch makes errors of loader workers anew, of their type and one text.
        super().__init__(what + (f": {reason}" if reason else "") + (f" ({hint})" if hint else ""))
        self.what = what
        self.reason = reason
        self.hint = hint

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle with all attributes, so that the error arrives whole from a loader worker."""
        return _rebuild, (type(self), self.args, self.__dict__)


class CacheFullError(CacheError):
    """The disk, or the cache's largest size, leaves no room."""


class CacheVersionError(CacheError):
    """The cache was written in a format that this version cannot read."""


class CacheCorruptError(CacheError):
    """A record's bytes are not what was written."""


class CacheLockedError(CacheError):
    """Another process writes to this cache."""


class RecipeError(SynthloaderError):
    """A recipe is wrong: the line, what was wrong, and what is allowed."""


class MissingExtraError(SynthloaderError, ImportError):
    """An optional package is not installed; the message names the extra to install."""


def import_extra(module: str, *, extra: str, user: str) -> ModuleType:
    """Import an optional package where it is used.

    Args:
        module: Name of the module to import.
        extra: The extra of synthloader that installs it.
        user: Who needs it, as the user knows it (`"InstructEdit"`).

    Raises:
        MissingExtraError: The package is not installed.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        package = module.partition(".")[0]
        raise MissingExtraError(f"{user} needs {package}. Install synthloader[{extra}].", name=package) from error


def note_error(error: BaseException, note: str) -> None:
    """Add a note to a foreign exception, which keeps its type. Python 3.10 shows notes nowhere, so nothing is lost."""
    foreign: Any = error
    if note in getattr(foreign, "__notes__", ()):
        return
    with suppress(AttributeError):  # A frozen exception goes on without the note: better than another error.
        if hasattr(foreign, "add_note"):
            foreign.add_note(note)
        else:  # Python 3.10
            foreign.__notes__ = [*getattr(foreign, "__notes__", ()), note]


def _rebuild(kind: type[SynthloaderError], args: tuple[Any, ...], state: dict[str, Any]) -> SynthloaderError:
    error = kind.__new__(kind)
    error.args = args
    error.__dict__.update(state)
    return error
