"""Keyword options of the public functions: unknown ones are named, with the nearest known."""

import difflib
from collections.abc import Iterable, Mapping

from gcf.errors import UsageError


def require_known(options: Mapping[str, object], known: Iterable[str]) -> None:
    """Raise UsageError for an option that no function of gcf knows.

    >>> require_known({"epoch": 3}, ["epochs", "lr"])
    Traceback (most recent call last):
    gcf.errors.UsageError: unknown option 'epoch'; did you mean epochs?
    """
    names = list(known)
    for name in options:
        if name not in names:
            near = difflib.get_close_matches(name, names, n=1)
            hint = f"did you mean {near[0]}?" if near else f"known: {', '.join(sorted(names))}"
            raise UsageError(f"unknown option {name!r}; {hint}")
