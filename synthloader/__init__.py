"""Interim."""
import synthloader.adapters  # registers
__all__: list[str] = []
