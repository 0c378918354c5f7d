"""The rules of the house that no linter knows. CONTRIBUTING.md has the reasons."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.golden.public_surface import list_public_objects
from tests.repo.sources import ROOT, Module, read_modules, write_tree

MAX_LINES = 500
NAMELESS = {"utils", "util", "helpers", "helper", "common", "misc"}
NEVER_IMPORTED = {"pickle", "cloudpickle", "dill", "marshal", "shelve", "joblib"}
# What a run hands to the processes that it starts itself, as multiprocessing does.
MAY_IMPORT = {("synthloader.adapters.ultralytics.processes", "pickle")}

# Calls that would reach beyond the library, as they are written, and what to do instead.
NEVER_CALLED = {
    r"(random|np\.random|numpy\.random)\.seed": "Make a generator with synthloader.seeds.",
    r"torch\.(cuda\.|random\.)?(manual_seed|manual_seed_all|seed|seed_all)": "Make a generator of its own.",
    r"torch\.set_(default_\w+|num_threads|num_interop_threads|deterministic_debug_mode|float32_matmul_precision)": (
        "Leave torch's defaults to the user."
    ),
    r"torch\.use_deterministic_algorithms": "Leave torch's defaults to the user.",
    r"cv2\.(setNumThreads|setRNGSeed|setUseOptimized)": "Leave OpenCV's defaults to the user.",
    r"np\.(seterr|set_printoptions)": "Leave NumPy's defaults to the user, or use `with np.errstate(...)`.",
    r"(warnings\.)?(filterwarnings|simplefilter|resetwarnings)": "Leave the warning filters to the user.",
    r"logging\.(basicConfig|\w*Handler)|.+\.(addHandler|setLevel)": "Log through logging.getLogger(__name__).",
    r"yaml\.(load|load_all|full_load|unsafe_load|Loader|UnsafeLoader)": "Load YAML with a safe loader.",
    r"eval|exec|os\.system": "Nothing that was read is ever run.",
}
# The demo is a program of its own, and puts the number back.
ALLOWED = {("synthloader.demo.training", "torch.set_num_threads")}
# The one way to make a random generator lies in synthloader/seeds.py.
MAKES_GENERATORS = re.compile(r"(.*\.)?(default_rng|Philox|PCG64|PCG64DXSM|SFC64|MT19937|RandomState|SeedSequence)")


def find_in_module(module: Module) -> Iterator[str]:
    """Yield every breach of the rules in one source file."""
    if module.path.stem in NAMELESS:
        yield f"{module.path}:1: {module.path.stem!r} says nothing. Name the file after the one concept in it."
    if (num_lines := module.text.count("\n")) > MAX_LINES:
        yield f"{module.path}:1: {num_lines} lines. Split it: no file has more than {MAX_LINES}."
    for node in ast.walk(module.tree):
        if isinstance(node, ast.Assert):
            yield f"{module.at(node)}: assert. Raise an error: asserts vanish under `python -O`."
        elif isinstance(node, (ast.Import, ast.ImportFrom)):
            origin = [node.module or ""] if isinstance(node, ast.ImportFrom) else [alias.name for alias in node.names]
            for name in {name.partition(".")[0] for name in origin} & NEVER_IMPORTED:
                if (module.name, name) in MAY_IMPORT:
                    continue
                yield f"{module.at(node)}: imports {name}. What is read back must not be able to run code."
        elif isinstance(node, ast.Call):
            yield from find_in_call(module, node)


def find_in_call(module: Module, node: ast.Call) -> Iterator[str]:
    """Yield every breach of the rules in one call."""
    called = ast.unparse(node.func)
    for pattern, remedy in NEVER_CALLED.items():
        if re.fullmatch(pattern, called) and (module.name, called) not in ALLOWED:
            yield f"{module.at(node)}: calls {called}. {remedy}"
    if MAKES_GENERATORS.fullmatch(called) and module.name != "synthloader.seeds":
        yield f"{module.at(node)}: calls {called}. The one way to make a generator is synthloader.seeds."
    if called == "torch.load" and "weights_only=True" not in [ast.unparse(word) for word in node.keywords]:
        yield f"{module.at(node)}: torch.load without weights_only=True."


def find_breaches(root: Path) -> list[str]:
    """List every breach of the rules in a tree."""
    return [breach for module in read_modules(root).values() for breach in find_in_module(module)]


def test_the_library_keeps_the_rules() -> None:
    breaches = find_breaches(ROOT)
    assert not breaches, "\n".join(breaches)


@pytest.mark.uses_global_rng  # packages that are imported for the first time may draw
def test_everything_public_has_a_docstring() -> None:
    bare = [
        name
        for name, thing in list_public_objects()
        # A data class without a docstring is given its signature for one.
        if (inspect.isclass(thing) or inspect.isroutine(thing))
        and (not thing.__doc__ or thing.__doc__.startswith(f"{thing.__name__}("))
    ]
    assert bare == []


@pytest.mark.parametrize(
    ("text", "wanted"),
    [
        ("assert x\n", "assert. Raise an error: asserts vanish under `python -O`."),
        ("def f():\n    from pickle import loads\n", "imports pickle. What is read back must not be able to run code."),
        ("np.random.seed(0)\n", "calls np.random.seed. Make a generator with synthloader.seeds."),
        ("torch.manual_seed(0)\n", "calls torch.manual_seed. Make a generator of its own."),
        (
            "warnings.filterwarnings('ignore')\n",
            "calls warnings.filterwarnings. Leave the warning filters to the user.",
        ),
        ("log.addHandler(h)\n", "calls log.addHandler. Log through logging.getLogger(__name__)."),
        ("cv2.setNumThreads(0)\n", "calls cv2.setNumThreads. Leave OpenCV's defaults to the user."),
        ("torch.load(path)\n", "torch.load without weights_only=True."),
        ("yaml.load(text, Loader=x)\n", "calls yaml.load. Load YAML with a safe loader."),
        (
            "np.random.default_rng(3)\n",
            "calls np.random.default_rng. The one way to make a generator is synthloader.seeds.",
        ),
        ("\n" * 501, "501 lines. Split it: no file has more than 500."),
    ],
)
def test_every_breach_is_reported(tmp_path: Path, text: str, wanted: str) -> None:
    (breach,) = find_breaches(write_tree(tmp_path, synthloader__filters__sharpness=text))
    assert breach.startswith("synthloader/filters/sharpness.py:")
    assert breach.endswith(f": {wanted}")


def test_a_file_that_is_named_after_nothing_is_reported(tmp_path: Path) -> None:
    (breach,) = find_breaches(write_tree(tmp_path, cache__utils=""))
    assert breach == "cache/utils.py:1: 'utils' says nothing. Name the file after the one concept in it."


def test_what_looks_like_a_breach_and_is_none_passes(tmp_path: Path) -> None:
    text = (
        '"""Never call np.random.seed(0)."""\n'
        "torch.Generator().manual_seed(3)\n"
        "torch.load(path, weights_only=True)\n"
        "logging.getLogger(__name__)\n"
        "torch.set_rng_state(state)\n"
    )
    seeds = "np.random.Generator(np.random.Philox(key=3))\n"
    assert find_breaches(write_tree(tmp_path, synthloader__lifting=text, synthloader__seeds=seeds)) == []
