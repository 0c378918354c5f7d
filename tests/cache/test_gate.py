"""Many inside at once, or one alone."""

from __future__ import annotations

import threading
import time

from synthloader.cache.gate import Gate


def test_several_are_inside_at_once() -> None:
    gate = Gate()
    together = threading.Barrier(3, timeout=30)

    def go_in() -> None:
        with gate.inside(), gate.inside():
            together.wait()

    threads = [threading.Thread(target=go_in) for _ in range(2)]
    for thread in threads:
        thread.start()
    go_in()
    for thread in threads:
        thread.join()


def test_nobody_is_inside_while_one_is_alone() -> None:
    gate = Gate()
    counts = {"inside": 0, "alone": 0, "clashes": 0}
    ends = time.monotonic() + 0.3

    def go_in() -> None:
        while time.monotonic() < ends:
            with gate.inside():
                counts["clashes"] += counts["alone"]

    def be_alone() -> None:
        while time.monotonic() < ends:
            with gate.alone():
                counts["alone"] += 1
                time.sleep(0.001)
                counts["alone"] -= 1

    threads = [threading.Thread(target=work) for work in (go_in, go_in, be_alone, be_alone)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert counts == {"inside": 0, "alone": 0, "clashes": 0}


def test_one_that_is_inside_goes_in_again_before_who_waits_to_be_alone() -> None:
    gate = Gate()
    order: list[str] = []

    def be_alone() -> None:
        with gate.alone():
            order.append("alone")

    with gate.inside():
        waiter = threading.Thread(target=be_alone)
        waiter.start()
        time.sleep(0.05)
        with gate.inside():
            order.append("inside")
    waiter.join()
    assert order == ["inside", "alone"]


def test_a_thread_knows_whether_it_is_busy() -> None:
    gate = Gate()
    assert not gate.is_busy
    with gate.inside():
        assert gate.is_busy
    with gate.alone():
        assert gate.is_busy
    assert not gate.is_busy


def test_a_reset_gate_is_open() -> None:
    gate = Gate()
    with gate._changed:
        gate.counts[-1] = 1  # A thread that the fork did not bring along.
        gate.reset()
    with gate.alone():
        pass
    assert not gate.is_busy


def test_one_that_goes_out_without_a_word_is_noticed() -> None:
    gate = Gate()
    go_out = threading.Event()

    def go_in() -> None:
        gate.enter()
        go_out.wait(30)
        gate.counts[threading.get_ident()] = 0  # And interrupted before it could wake anybody.

    thread = threading.Thread(target=go_in)
    thread.start()
    while not any(gate.counts.values()):
        time.sleep(0.001)
    threading.Timer(0.05, go_out.set).start()
    with gate.alone():
        thread.join(30)
        assert gate.counts == {}


def test_blocks_may_end_in_any_order() -> None:
    gate = Gate()
    first, second = gate.inside(), gate.inside()
    first.__enter__()
    second.__enter__()
    first.__exit__(None, None, None)
    assert gate.is_busy
    second.__exit__(None, None, None)
    assert not gate.is_busy
