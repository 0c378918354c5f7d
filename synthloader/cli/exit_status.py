"""What a command ends with: 0 done, 1 refused (one line says why), 2 wrong usage, 130 interrupted and resumable."""

from __future__ import annotations

import sys
import warnings
from typing import Any

import typer
from typer.core import TyperGroup

from synthloader.errors import SynthloaderError

__all__ = ["Commands", "say_warning"]

RESUME = "stopped; run the same command again to go on"


class Commands(TyperGroup):
    """The commands, with a user's mistake said in one line instead of a stack trace."""

    def invoke(self, ctx: Any) -> Any:
        """Run the command that was asked for."""
        try:
            return super().invoke(ctx)
        except KeyboardInterrupt:
            typer.echo(f"\nsynthloader: {RESUME}", err=True)
            raise typer.Exit(130) from None
        except BrokenPipeError:
            raise  # somebody closed our stdout: nothing is left to say
        except (SynthloaderError, ValueError, OSError) as error:
            typer.echo(f"synthloader: error: {describe_error(error)}", err=True)
            raise typer.Exit(1) from None


def describe_error(error: BaseException) -> str:
    """The message and its notes in one line."""
    message = " ".join(str(error).split()) or type(error).__name__
    notes = "; ".join(getattr(error, "__notes__", ()))
    return f"{message} ({notes})" if notes else message


def say_warning(message: Warning | str, *rest: Any, **options: Any) -> None:
    """Show a warning as the command line shows errors; takes the place of `warnings.showwarning` in our own process."""
    category = rest[0] if rest else options.get("category", UserWarning)
    if issubclass(category, UserWarning):
        typer.echo(f"synthloader: warning: {message}", err=True)
    else:
        sys.stderr.write(warnings.formatwarning(message, *rest[:3]))
