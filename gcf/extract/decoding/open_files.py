"""How many files this process may have open: each decoder takes two, and the rest of an extraction a few more."""

import contextlib
import os
import resource

SPARE = 16  # for all but decoders: parts and their folders, the merge, libraries that are loaded late


def raise_limit() -> None:
    """Raise the soft limit to the hard one, for this process and those that it starts."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft != hard:
        with contextlib.suppress(ValueError, OSError):  # macOS has limits that it does not tell
            resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


def require_spare() -> None:
    """Raise OSError where fewer than SPARE files more could be opened."""
    with contextlib.ExitStack() as stack:
        for _ in range(SPARE):
            stack.callback(os.close, os.open(os.devnull, os.O_RDONLY))
