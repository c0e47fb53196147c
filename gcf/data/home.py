"""Where gcf keeps what is the machine's: fetched weights, converted networks, counts of looks."""

import os
from pathlib import Path


def home_folder() -> Path:
    """What gcf keeps on this machine: $GCF_HOME, or gcf's folder of the XDG cache."""
    home = os.environ.get("GCF_HOME")
    if home:
        return Path(home).expanduser()
    cache = Path(os.environ.get("XDG_CACHE_HOME", ""))
    return (cache if cache.is_absolute() else Path.home() / ".cache") / "gcf"
