"""The tree of errors is the one drawn, every error arrives whole from a worker, and foreign ones keep their type."""

from __future__ import annotations

import copy
import dataclasses
import multiprocessing
import pickle
import re
import sys
from typing import Any

import pytest

from synthloader import errors
from synthloader.errors import (
    CacheCorruptError,
    CacheError,
    CacheFullError,
    CacheLockedError,
    CacheVersionError,
    GenerationError,
    LabelContractError,
    MissingExtraError,
    NothingToGenerate,
    RecipeError,
    ShortfallError,
    SynthloaderError,
    import_extra,
    note_error,
)

EXAMPLES = [
    SynthloaderError("a"),
    LabelContractError("a label"),
    GenerationError("no image", index=17, fingerprint="CopyPaste/1()", seed=3),
    NothingToGenerate("no donor"),
    ShortfallError("too few"),
    CacheError("opening /a", reason="not there", hint="make it"),
    CacheFullError("writing /a", reason="no room"),
    CacheVersionError("opening /a", reason="format 9", hint="update"),
    CacheCorruptError("reading 00ff", reason="checksum"),
    CacheLockedError("opening /a", reason="process 3 writes"),
    RecipeError("line 3"),
    MissingExtraError("A needs b. Install synthloader[c].", name="b"),
]


def read_drawn_tree() -> dict[str, str]:
    """Error to its parent, read from the picture in the module's docstring."""
    picture = re.search(r"```\n(.*?)```", errors.__doc__ or "", re.DOTALL)
    assert picture is not None
    parents: dict[int, str] = {}
    tree = {}
    for line in picture[1].splitlines():
        mark = re.match(r"[│ ]*[├└]─ |", line)
        assert mark is not None
        depth = len(mark[0]) // 3
        # Several names may stand on one line; what is behind them is prose.
        names = re.match(r"(?:[A-Z]\w+(?:  |$))*[A-Z]\w+", line[len(mark[0]) :])
        assert names is not None, line
        for name in names[0].split():
            if depth:
                tree[name] = parents[depth - 1]
        parents[depth] = names[0].split()[-1]
    return tree


def test_the_tree_is_the_one_in_the_docstring() -> None:
    kinds = [kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, BaseException)]
    real = {kind.__name__: kind.__bases__[0].__name__ for kind in kinds if kind is not SynthloaderError}
    assert read_drawn_tree() == real
    assert issubclass(MissingExtraError, ImportError)
    assert SynthloaderError.__bases__ == (Exception,)


def test_every_error_is_listed_and_has_an_example_here() -> None:
    kinds = {name for name, kind in vars(errors).items() if isinstance(kind, type) and issubclass(kind, BaseException)}
    assert kinds <= set(errors.__all__)
    assert {type(example).__name__ for example in EXAMPLES} == kinds


@pytest.mark.parametrize("error", EXAMPLES, ids=lambda error: type(error).__name__)
@pytest.mark.parametrize(
    "send", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy], ids=["pickle", "copy", "deep"]
)
def test_every_error_arrives_whole(error: SynthloaderError, send: Any) -> None:
    sent = send(error)
    assert type(sent) is type(error)
    assert str(sent) == str(error)
    assert sent.args == error.args
    assert vars(sent) == vars(error)


def test_notes_travel_with_the_error() -> None:
    error = GenerationError("no image", index=1)
    note_error(error, "while generating")
    assert pickle.loads(pickle.dumps(error)).__notes__ == ["while generating"]


def _raise_at(index: int) -> None:
    raise GenerationError("no image", index=index, fingerprint="f", seed=2)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")  # Python 3.12 and newer
def test_an_error_arrives_from_another_process() -> None:
    with multiprocessing.get_context("fork").Pool(1) as pool:
        with pytest.raises(GenerationError) as caught:
            pool.apply(_raise_at, (5,))
        pool.close()
        pool.join()
    assert (str(caught.value), caught.value.index, caught.value.fingerprint, caught.value.seed) == (
        "no image", 5, "f", 2,
    )  # fmt: skip


def test_errors_say_what_they_know() -> None:
    error = GenerationError("no image", index=17, fingerprint="f", seed=3)
    assert (str(error), error.index, error.fingerprint, error.seed) == ("no image", 17, "f", 3)
    assert NothingToGenerate("no donor").reason == str(NothingToGenerate("no donor")) == "no donor"


def test_cache_errors_say_what_why_and_what_to_do() -> None:
    assert str(CacheFullError("writing /a", reason="no room", hint="raise map_size_bytes")) == (
        "writing /a: no room (raise map_size_bytes)"
    )
    error = CacheError("writing /a", reason="no room")
    assert str(error) == "writing /a: no room"
    assert (error.what, error.reason, error.hint) == ("writing /a", "no room", "")


def test_an_extra_that_is_there_is_imported() -> None:
    assert import_extra("json.decoder", extra="x", user="X") is sys.modules["json.decoder"]


def test_an_extra_that_is_missing_is_named() -> None:
    with pytest.raises(MissingExtraError) as caught:
        import_extra("no_such_package.inner", extra="diffusion", user="InstructEdit")
    assert str(caught.value) == "InstructEdit needs no_such_package. Install synthloader[diffusion]."
    assert caught.value.name == "no_such_package"
    assert isinstance(caught.value.__cause__, ModuleNotFoundError)
    assert isinstance(caught.value, ImportError)


# ---- notes


class OldPythonError(Exception):
    """Like an exception of Python 3.10, which knows no notes."""

    def __getattribute__(self, name: str) -> Any:
        if name == "add_note":
            raise AttributeError(name)
        return super().__getattribute__(name)


@pytest.mark.parametrize("kind", [KeyError, OldPythonError, SystemExit])
def test_a_foreign_error_keeps_its_type_and_gains_a_note(kind: type[BaseException]) -> None:
    error = kind("a")
    before = str(error)
    note_error(error, "while generating index 17 with CopyPaste(seed=3)")
    note_error(error, "while reading item 3")
    assert type(error) is kind
    assert str(error) == before
    assert error.__notes__ == ["while generating index 17 with CopyPaste(seed=3)", "while reading item 3"]  # type: ignore[attr-defined]


@pytest.mark.parametrize("kind", [KeyError, OldPythonError])
def test_the_same_note_is_added_once(kind: type[Exception]) -> None:
    error = kind("a")
    for _ in range(3):
        note_error(error, "while reading item 3")
    assert error.__notes__ == ["while reading item 3"]  # type: ignore[attr-defined]


def test_a_frozen_error_stays_itself_without_the_note() -> None:
    @dataclasses.dataclass(frozen=True)
    class FrozenError(Exception):
        code: int

    error = FrozenError(3)
    note_error(error, "while reading item 3")
    assert error.code == 3
