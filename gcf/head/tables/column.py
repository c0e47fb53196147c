"""A column of a table of arms: the one list of them makes Markdown, LaTeX and the report's page."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass

Text = Callable[[Mapping], str]  # of a row


@dataclass(frozen=True)
class Column:
    """title, and the text of a row's cell; '' where the row has nothing to say."""

    title: str
    text: Text


def judged(text: Text) -> Text:
    """'' for an arm that has failed."""
    return lambda row: "" if row["mean"] is None else text(row)


def compared(text: Text) -> Text:
    """'' for an arm that has failed, or is not compared with the reference."""
    return lambda row: "" if row["mean"] is None or row["delta"] is None else text(row)


def points_text(difference: float) -> str:
    """A difference in percentage points, with its sign."""
    return f"{100 * difference:+.1f}"


def interval_text(row: Mapping, prefix: str = "") -> str:
    """The interval of a row's difference in percentage points; "-" where there is none."""
    low, high = row[f"{prefix}low"], row[f"{prefix}high"]
    return "-" if low is None else f"{points_text(low)} to {points_text(high)}"


def p_text(p: float | None) -> str:
    """A p to three digits; "-" where there is none."""
    if p is None:
        return "-"
    return "< 0.001" if p < 0.001 else f"{p:.3f}"
