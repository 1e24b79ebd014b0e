"""
The bar of a command that takes its time: on standard error, where a person looks on.
"""

from __future__ import annotations

from rich.console import Console
from rich.progress import Progress


def progress_bar(*, is_quiet: bool) -> Progress:
    """Give one; nothing is printed when there is no terminal: files of output hold results and faults alone."""
    console = Console(stderr=True)
    return Progress(disable=is_quiet or not console.is_terminal, console=console)
