"""What is not known is named, with the nearest that is: options, backbones, heads, classes."""

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
            hint = did_you_mean(name, names) or f"known: {', '.join(sorted(names))}"
            raise UsageError(f"unknown option {name!r}; {hint}")


def did_you_mean(name: str, known: Iterable[str]) -> str:
    """A question with the up to three known names that are most alike, "" where none is.

    >>> did_you_mean("gcf-265", ["gcf-256", "mean"])
    'did you mean gcf-256?'
    """
    near = difflib.get_close_matches(name, list(known), n=3)
    return f"did you mean {' or '.join(near)}?" if near else ""
