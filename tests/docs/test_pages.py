"""The pages of docs/trainers and docs/generators: every block of Python on them runs, in order, in an empty folder."""

from __future__ import annotations

import gc
import os
import re
import shutil
import sys
import textwrap
import traceback
import types
import warnings
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from unittest import mock

import pytest
import torch

DOCS = Path(__file__).resolve().parents[2] / "docs"
TRAINERS, GENERATORS = (sorted((DOCS / name).glob("*.md")) for name in ("trainers", "generators"))
PAGES = [*TRAINERS, *(page for page in GENERATORS if page.name != "README.md")]

# What the library itself warns of is a mistake on a page; what a trainer warns of is the trainer's business.
OWN_WARNINGS = ("More items of epoch", "The plan asks for")


@dataclass(frozen=True)
class Block:
    """Code of a page, the line on which it begins, and whether it is run or only compiled."""

    line: int
    code: str
    runs: bool


def read_blocks(text: str) -> list[Block]:
    """Fenced blocks of Python, and the hidden `<!-- setup ... -->`."""
    blocks, lines = [], text.splitlines()
    at = 0
    while at < len(lines):
        opening = lines[at].strip()
        at += 1
        if opening.startswith("```"):
            end, language = "```", opening[3:].strip()
        elif opening == "<!-- setup":
            end, language = "-->", "python"
        else:
            continue
        first = at
        while at < len(lines) and lines[at].strip() != end:
            at += 1
        if at == len(lines):
            raise ValueError(f"line {first}: the block {opening!r} has no end")
        if language.split()[:1] == ["python"]:
            if language not in ("python", "python no-run"):
                raise ValueError(f"line {first}: {opening!r} is neither ```python nor ```python no-run")
            code = textwrap.dedent("\n".join(lines[first:at]) + "\n")  # a block within a list is indented
            blocks.append(Block(first + 1, code, language == "python"))
        at += 1
    return blocks


def run_page(page: Path, folder: Path) -> None:
    """Run a page's blocks in one namespace, with `folder` as the working directory.

    Raises:
        AssertionError: A block fails, named by page and line, or there is none.
    """
    module = types.ModuleType(f"page_{page.stem}")  # so that what a page defines can be pickled
    blocks = read_blocks(page.read_text())
    assert any(block.runs for block in blocks), f"{page.name} has no block of Python that runs"
    before = Path.cwd()
    os.chdir(folder)
    sys.modules[module.__name__] = module
    try:
        for block in blocks:
            run_block(block, page, module)
    finally:
        del sys.modules[module.__name__]
        os.chdir(before)
        module.__dict__.clear()
        gc.collect()  # A page's caches are closed with it.


def run_block(block: Block, page: Path, module: types.ModuleType) -> None:
    try:
        # Empty lines in front give every line its number on the page, in the traceback too.
        code = compile("\n" * (block.line - 1) + block.code, str(page), "exec")
        if block.runs:
            exec(code, module.__dict__)
    except (Exception, SystemExit) as error:
        lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == str(page)]
        if isinstance(error, SyntaxError) and error.filename == str(page):
            lines = [error.lineno]
        line = lines[-1] if lines else block.line
        raise AssertionError(f"{page.name}:{line}: {type(error).__name__}: {error}") from error


@pytest.fixture
def surroundings(tmp_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """An empty folder, no network, one thread, and torch and the environment as they were behind it."""
    config = tmp_path_factory.getbasetemp() / "ultralytics"  # read once, when the package is first imported
    if not (config / "Arial.ttf").exists():
        config.mkdir(exist_ok=True)
        font = pytest.importorskip("matplotlib").get_data_path()
        shutil.copy(Path(font, "fonts", "ttf", "DejaVuSans.ttf"), config / "Arial.ttf")
    environment = {
        "YOLO_OFFLINE": "true",
        "YOLO_CONFIG_DIR": str(config),
        "HF_HUB_OFFLINE": "1",
        "MPLBACKEND": "Agg",
        "TQDM_DISABLE": "1",
    }
    threads, deterministic = torch.get_num_threads(), torch.are_deterministic_algorithms_enabled()
    torch.set_num_threads(1)
    with mock.patch.dict(os.environ, environment), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for message in OWN_WARNINGS:
            warnings.filterwarnings("error", message)
        yield tmp_path
    torch.set_num_threads(threads)
    torch.use_deterministic_algorithms(deterministic)
    torch.set_grad_enabled(True)


@pytest.mark.uses_global_rng
@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_every_block_of_a_page_runs(page: Path, surroundings: Path) -> None:
    run_page(page, surroundings)


@pytest.mark.parametrize("page", PAGES, ids=lambda page: page.stem)
def test_the_links_of_a_page_lead_somewhere(page: Path) -> None:
    links = re.findall(r"\]\(([^)#\s]+)(?:#[^)\s]*)?\)", page.read_text())
    local = [link for link in links if "://" not in link]
    assert [link for link in local if not (page.parent / link).exists()] == []


def test_the_index_names_every_page() -> None:
    for pages in (TRAINERS, GENERATORS):
        index = (pages[0].parent / "README.md").read_text()
        assert [page.name for page in pages if page.name != "README.md" and f"]({page.name})" not in index] == []


def test_every_generator_has_a_page_with_a_picture() -> None:
    import synthloader.generators

    text = "\n".join(page.read_text() for page in GENERATORS)
    assert [name for name in synthloader.generators.__all__ if f"# {name}" not in text and f"{name}(" not in text] == []
    for page in GENERATORS:
        if page.name != "README.md":
            assert page.with_suffix(".jpg").exists(), f"draw it: python docs/generators/draw.py {page.stem}"
            assert f"]({page.stem}.jpg)" in page.read_text()


class TestTheReader:
    """The reader of pages is tested too: one that runs nothing would pass everything."""

    def write(self, folder: Path, text: str) -> Path:
        (folder / "page.md").write_text(text)
        return folder / "page.md"

    def test_blocks_run_in_order_in_one_namespace_and_in_the_folder(self, tmp_path: Path) -> None:
        text = "<!-- setup\nnumbers = [1]\n-->\n\n```python\nnumbers.append(2)\n```\n\ntext\n\n"
        text += "```python\nimport pathlib\npathlib.Path('out.txt').write_text(repr(numbers))\n```\n"
        before = Path.cwd()
        run_page(self.write(tmp_path, text), tmp_path)
        assert (tmp_path / "out.txt").read_text() == "[1, 2]"
        assert Path.cwd() == before

    def test_blocks_that_cannot_run_are_compiled_only(self, tmp_path: Path) -> None:
        run_page(self.write(tmp_path, "```python no-run\nimport detectron9\n```\n```python\n1\n```\n"), tmp_path)
        with pytest.raises(AssertionError, match=r"^page\.md:5: SyntaxError: "):
            run_page(self.write(tmp_path, "```python\n1\n```\n```python no-run\n1 +\n```\n"), tmp_path)

    def test_a_failing_block_is_named_by_page_and_line(self, tmp_path: Path) -> None:
        text = "# Title\n\n```python\ndef halve(n):\n    return n / 0\n```\n\n```python\nx = 1\n\nhalve(x)\n```\n"
        with pytest.raises(AssertionError, match=r"^page\.md:5: ZeroDivisionError: "):
            run_page(self.write(tmp_path, text), tmp_path)
        with pytest.raises(AssertionError, match=r"^page\.md:4: NameError: "):
            run_page(self.write(tmp_path, "text\n\n```python\nmissing\n```\n"), tmp_path)

    @pytest.mark.parametrize("text", ["# Nothing\n", "```bash\nls\n```\n", "```python no-run\n1\n```\n"])
    def test_a_page_that_runs_nothing_fails(self, text: str, tmp_path: Path) -> None:
        with pytest.raises(AssertionError, match=r"^page\.md has no block of Python that runs"):
            run_page(self.write(tmp_path, text), tmp_path)

    @pytest.mark.parametrize(
        ("text", "message"),
        [
            ("```python\n1\n", "line 1: the block '```python' has no end"),
            ("```python no run\n1\n```\n", "line 1: '```python no run' is neither ```python nor ```python no-run"),
        ],
    )
    def test_a_block_that_is_marked_wrongly_is_refused(self, text: str, message: str) -> None:
        with pytest.raises(ValueError) as caught:
            read_blocks(text)
        assert str(caught.value) == message
