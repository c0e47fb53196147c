"""What a check says: one line, ok, warning or fault, with what to do about it."""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from gcf.errors import UsageError

OK, WARNING, FAULT = "ok", "warning", "fault"


@dataclass(frozen=True)
class Finding:
    """One check's result. state: "ok", "warning" (gcf works, less well) or "fault" (something it needs does not)."""

    check: str
    state: str
    says: str
    do: str = ""

    def describe(self) -> str:
        """One line."""
        return f"{self.state:8}{self.check:12}{self.says}{'; ' + self.do if self.do else ''}"


def run_checks(checks: Sequence[tuple[str, Callable[[], Finding]]]) -> Iterator[Finding]:
    """Each check's finding as it is made; a check that raises is a fault of its own, and the rest go on."""
    for name, check in checks:
        try:
            yield check()
        except UsageError:
            raise
        except Exception as error:  # a broken library may raise anything, and to say so is what this is for
            said = " ".join(f"{type(error).__name__}: {error}".split())
            yield Finding(name, FAULT, f"cannot be checked ({said})", "is what gcf needs installed whole?")
