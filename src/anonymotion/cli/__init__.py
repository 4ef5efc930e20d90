"""The command line, `anonymotion`.

Not here: anything that decides a pixel; nothing of the package imports this.
"""

from anonymotion.cli.commands import app, main

__all__ = ["app", "main"]
