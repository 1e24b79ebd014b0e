"""
Where `pacsctl` begins: the modules take their time, and who loses patience meanwhile gets a line, too.
"""

import sys


def main() -> int:
    """
    Run `pacsctl`.

    Returns:
        the exit status.
    """
    try:
        from pacs.command import main as run

        return run()
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 1
