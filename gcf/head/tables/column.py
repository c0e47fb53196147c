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
