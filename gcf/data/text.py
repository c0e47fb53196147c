"""Words of strangers, made fit to be shown and to be compared: names, reasons and recipes may hold anything."""

import unicodedata
from collections.abc import Mapping

FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # OWASP, "CSV Injection": spreadsheets run cells that begin so
JOINERS = "\u200c\u200d"  # invisible, but part of how some scripts are written


def printable(text: object) -> str:
    """Text in one line, with what cannot be shown escaped: control characters, bytes that are no UTF-8, line breaks,
    marks that turn the writing.

    >>> print(printable("a\\nb\\x1b[2J"))
    a\\nb\\x1b[2J
    """
    return "".join(c if _shows(c) else c.encode("unicode_escape").decode("ascii") for c in str(text))


def one_line(text: object) -> str:
    """What an error says, in one line: every run of blanks and line breaks is one blank.

    >>> one_line(ValueError("cannot\\n  be read"))
    'cannot be read'
    """
    return " ".join(str(text).split())


def cut(text: object, *, most: int = 80) -> str:
    """What a stranger wrote, fit to be shown: printable, and no longer than `most` characters and three dots.

    >>> cut("conv1.weight"), cut("conv1.weight", most=5)
    ('conv1.weight', 'conv1...')
    """
    text = str(text)
    return printable(text[:most]) + ("..." if len(text) > most else "")


def printable_lines(text: str) -> str:
    """The same line by line: the line breaks stay."""
    return "\n".join(map(printable, text.split("\n")))


def csv_cell(value: object) -> object:
    """A value of a CSV file; a text that a spreadsheet would run as a formula begins with an apostrophe.

    >>> csv_cell("=1+2.mp4"), csv_cell(-0.5)
    ("'=1+2.mp4", -0.5)
    """
    runs = isinstance(value, str) and value.startswith(FORMULA_STARTS)
    return f"'{value}" if runs else value


def cell_text(cell: str) -> str:
    """The text of a cell that `csv_cell` gave.

    >>> cell_text("'=1+2.mp4"), cell_text("'tis.mp4")
    ('=1+2.mp4', "'tis.mp4")
    """
    guarded = cell.startswith("'") and cell[1:].startswith(FORMULA_STARTS)
    return cell[1:] if guarded else cell


def class_key(name: str) -> str:
    """A class name as it is compared: data sets and networks write case, _ and - each in their own way.

    >>> class_key("Clean_and-Jerk")
    'clean and jerk'
    """
    return " ".join(name.casefold().replace("_", " ").replace("-", " ").split())


def spelling_key(name: str) -> str:
    """A class name as people spell it by mistake, without letter case and blanks; `_` and `-` count, unlike above.

    >>> spelling_key("Long  Jump ")
    'longjump'
    """
    return "".join(name.casefold().split())


def named_classes(counts: Mapping[str, int], *, shown: int = 12) -> str:
    """Classes with the number of their videos in one line, the first ones, then how many more there are.

    >>> named_classes({"jump": 3, "run": 2, "walk": 1}, shown=2)
    'jump (3), run (2) and 1 more'
    """
    names = [f"{printable(name)} ({count:,})" for name, count in counts.items()]
    more = f" and {len(names) - shown:,} more" if len(names) > shown else ""
    return ", ".join(names[:shown]) + more


def _shows(character: str) -> bool:
    return character.isprintable() or character in JOINERS or unicodedata.category(character) == "Zs"
