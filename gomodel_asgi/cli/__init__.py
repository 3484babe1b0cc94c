"""The command line, on argparse: it must be there wherever the package is, in a container's build above all."""

from .command_line import main

__all__ = ["main"]
