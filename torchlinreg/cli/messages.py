"""Messages to the user: errors that the user can correct, and lists of names."""

from collections.abc import Iterable

__all__ = ["UsageError", "listed", "one_line"]


class UsageError(Exception):
    """An error that the user can correct; printed without a traceback."""


def one_line(message: object) -> str:
    """Return a message without line breaks."""
    return " ".join(str(message).split())


def listed(names: Iterable[str], most: int = 20) -> str:
    """Return names separated by commas; of more than `most`, the first ones and how many more there are."""
    names = list(names)
    more = [f"and {len(names) - most} more"] if len(names) > most else []
    return ", ".join(names[:most] + more)
