"""transformers, kept quiet, and its errors in one line each."""

import contextlib
import sys
import warnings
from collections.abc import Iterator
from types import ModuleType

from gcf.errors import GcfError, WeightsError
from gcf.extract.backbones.huggingface_names import ModelPlace

NO_CONFIG = "has no config.json; name a model's repository, or a folder made by save_pretrained"
# Of huggingface_hub.errors, by name, from the narrowest: transformers raises OSErrors of many words around them
REASONS = {
    "GatedRepoError": "access must be asked for on its page on the hub; then log in with `hf auth login`",
    "RevisionNotFoundError": "the repository has no revision {weights}",
    "RepositoryNotFoundError": "the hub has no such repository, or a private one: check the name, or log in with "
    "`hf auth login`",
    "LocalEntryNotFoundError": "not in the cache, and the hub cannot be reached; fetch it where there is a network, or "
    "name a folder",
    "OfflineModeIsEnabled": "not in the cache, and offline mode (HF_HUB_OFFLINE) is on",
    "EntryNotFoundError": NO_CONFIG,  # the one file that is not looked for before it is asked for
}


@contextlib.contextmanager
def quiet(library: ModuleType) -> Iterator[None]:
    """No warnings and reports of transformers meanwhile, and bars for downloads only, and only on a terminal."""
    from huggingface_hub.utils import disable_progress_bars, enable_progress_bars
    from huggingface_hub.utils import logging as hub_logging

    ours = library.utils.logging
    levels, bars = (ours.get_verbosity(), hub_logging.get_verbosity()), ours.is_progress_bar_enabled()
    ours.set_verbosity(ours.CRITICAL)
    hub_logging.set_verbosity(hub_logging.CRITICAL)
    ours.disable_progress_bar()  # the hub's too
    (enable_progress_bars if bars and sys.stderr.isatty() else disable_progress_bars)()
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        ours.set_verbosity(levels[0])
        hub_logging.set_verbosity(levels[1])
        if bars:
            ours.enable_progress_bar()


@contextlib.contextmanager
def told_plainly(place: ModelPlace, weights: object) -> Iterator[None]:
    """Make one line of whatever goes wrong with a place's files."""
    try:
        yield
    except GcfError:
        raise
    except Exception as error:  # transformers, its hub and its readers raise of every kind, and each means the same
        raise WeightsError(f"{place.name}: {_reason(error, weights)}") from error


def _reason(error: BaseException, weights: object) -> str:
    names, cause = [], error
    while cause is not None and len(names) < 20:
        names += [each.__name__ for each in type(cause).__mro__]
        cause = cause.__cause__ or cause.__context__
    for name, reason in REASONS.items():
        if name in names:
            return reason.format(weights=repr(weights))
    first = next(filter(None, map(str.strip, str(error).splitlines())), "")
    return f"cannot be loaded ({type(error).__name__}: {first})"
