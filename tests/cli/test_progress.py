"""The bars, as a terminal and as a log file see them."""

from __future__ import annotations

import io
import re
import time
from collections import Counter

import pytest
from rich.console import Console

from synthloader.precompute import PrecomputeReport
from synthloader.progress import describe_rejections, open_bar, open_counter

REPORT = PrecomputeReport(
    total=48,
    done=12,
    generated=15,
    cached=3,
    accepted=11,
    failed=1,
    rejected=Counter({"MinBox: box too small": 5, "CopyPaste: no donor": 2, "A: a": 1, "B: b": 1, "C: c": 1}),
    seconds=6.0,
)


def show_on(*, is_terminal: bool, width: int = 100) -> tuple[Console, io.StringIO]:
    file = io.StringIO()
    return Console(file=file, force_terminal=is_terminal, width=width, _environ={}), file


def read_text(file: io.StringIO) -> str:
    return re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", file.getvalue())


def test_a_terminal_sees_rate_accepted_and_rejected_by_reason() -> None:
    console, file = show_on(is_terminal=True)
    with open_bar(console=console) as show:
        show(REPORT)
    text = read_text(file)
    assert "12/48 2.0/s" in text
    assert "11 accepted, 3 from the cache, 10 rejected (MinBox: box too small 5, CopyPaste: no donor 2," in text


@pytest.mark.parametrize("width", [40, 80])
def test_no_line_is_wider_than_a_narrow_terminal(width: int) -> None:
    console, file = show_on(is_terminal=True, width=width)
    with open_bar(48, console=console) as show:
        show(REPORT)
    assert max(map(len, re.split(r"[\r\n]", read_text(file)))) <= width


def test_a_log_file_gets_a_line_now_and_then(monkeypatch: pytest.MonkeyPatch) -> None:
    console, file = show_on(is_terminal=False)
    started = time.monotonic()
    with open_bar(console=console) as show:
        show(REPORT)
        assert file.getvalue() == ""
        monkeypatch.setattr("time.monotonic", lambda: started + 60)
        show(REPORT)
        show(REPORT)
    assert file.getvalue() == (
        "generate 12/48, 2.0/s, 11 accepted, 10 rejected (MinBox: box too small 5, CopyPaste: no donor 2, A: a 1, "
        "others 2), 18 s left\n"
    )


def test_a_counter_shows_steps_and_vanishes() -> None:
    console, file = show_on(is_terminal=True)
    with open_counter("train", 40, console=console) as show:
        show(12, "loss 3.21")
    text = read_text(file)
    assert "train" in text
    assert "12/40 loss 3.21" in text
    silent, nothing = show_on(is_terminal=False)
    with open_counter("train", 40, console=silent) as show:
        show(12, "loss 3.21")
    assert nothing.getvalue().strip() == ""


def test_rejections_in_words() -> None:
    assert describe_rejections({}) == "0 rejected"
    assert describe_rejections({"MinBox: box too small": 3}) == "3 rejected (MinBox: box too small 3)"
