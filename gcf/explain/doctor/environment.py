"""All that gcf needs of the machine it is on, checked one after another."""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

from gcf.explain.doctor import folders, libraries, machine
from gcf.explain.doctor.decode_test import check_decoding
from gcf.explain.doctor.finding import Finding, run_checks
from gcf.extract.weights.cache import weights_folder


def check_environment(folder: Path) -> Iterator[Finding]:
    """Every finding as it is made. folder: where results are to be written."""
    return run_checks(environment_checks(folder))


def environment_checks(folder: Path) -> list[tuple[str, Callable[[], Finding]]]:
    """(name, check) in order: what others stand on comes first."""
    return [
        ("Python", libraries.check_python),
        ("gcf", libraries.check_gcf),
        *((name, partial(libraries.check_library, name)) for name in libraries.LIBRARIES),
        ("decoders", libraries.check_decoders),
        ("devices", machine.check_devices),
        ("precision", machine.check_precision),
        ("runtime", machine.check_runtime),
        ("processors", machine.check_processors),
        ("memory", machine.check_memory),
        ("room", partial(folders.check_room, folder)),
        ("weights", lambda: folders.check_weights_room(weights_folder())),
        ("locks", partial(folders.check_locks, folder)),
        ("decoding", check_decoding),
    ]
