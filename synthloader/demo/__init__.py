"""The demo: the whole library on photographs that are already installed. Needs `synthloader[demo]`."""

from synthloader.demo.run import run_demo

__all__ = ["run_demo"]
