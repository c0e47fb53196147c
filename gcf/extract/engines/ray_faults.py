"""What goes wrong on a node, as values and in words: no exception of ours crosses Ray, no traceback reaches a user."""

import socket
from dataclasses import dataclass

from gcf.data.recipe import MEASURED, differences
from gcf.errors import GcfError, RecipeError

HARDWARE = "give --runtime torch --precision fp32, which every machine has"


@dataclass(frozen=True)
class Fault:
    """What went wrong on a node, as a value: the message and the exit code that it has."""

    message: str
    exit_code: int


class WorkEnded(Exception):  # noqa: N818 - it is no error
    """Not a fault: the driver has asked for an end, or is gone."""


def told(work, *args):
    """What `work` gives, or the Fault that it ran into."""
    here = f"Ray worker on {socket.gethostname()}"
    try:
        return work(*args)
    except WorkEnded:
        return None
    except GcfError as error:
        return Fault(f"{here}: {error}", error.exit_code)
    except Exception as error:  # all of it is for the driver to say, in one line
        return Fault(f"{here}: {type(error).__name__}: {' '.join(str(error).split())}", 1)


def as_error(fault: Fault) -> GcfError:
    """The error that a node has sent."""
    error = GcfError(fault.message)
    error.exit_code = fault.exit_code
    return error


def check_same(node: str, theirs: dict, ours: dict) -> None:
    """Raise RecipeError unless a node makes the recipe that the driver makes."""
    if found := differences(theirs, ours, ignore=MEASURED):
        remedy = "install the same versions, weights and plug-ins on all nodes"
        if any(theirs.get(name) != ours.get(name) for name in ("precision", "runtime")):
            remedy = f"{HARDWARE}, or {remedy}"
        raise RecipeError(
            f"Ray worker on {node}: would make other numbers than this process ({'; '.join(found[:4])}); {remedy}"
        )


def last_line(error: BaseException) -> str:
    """What an exception of Ray, which carries a traceback in its text, says in the end."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__
