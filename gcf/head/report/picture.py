"""A plot that is drawn once and given twice: as SVG inside a page, in the page's own colours, and as PNG."""

import base64
import io
import re
import warnings
import xml.etree.ElementTree as ET
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass

import matplotlib.style
from markupsafe import Markup
from matplotlib.artist import Artist
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from gcf.data.text import printable

# Okabe and Ito's blue and vermilion stay apart for every kind of colour vision; each is a variable of page.css.
INK, MUTED, LINE, PAPER = "#1c2126", "#5a646e", "#d9dee3", "#ffffff"
ACCENT, OTHER = "#0072b2", "#b84a00"
VARIABLES = {INK: "ink", MUTED: "muted", LINE: "line", PAPER: "paper", ACCENT: "accent", OTHER: "other"}
STYLE = {
    "axes.edgecolor": LINE,
    "axes.labelcolor": MUTED,
    "axes.spines.right": False,
    "axes.spines.top": False,
    "axes.titlecolor": INK,
    "axes.titlelocation": "left",
    "axes.titlesize": 9.5,
    "axes.titleweight": "bold",
    "figure.constrained_layout.use": True,
    "font.size": 9,
    "legend.frameon": False,
    "legend.labelcolor": MUTED,
    "svg.fonttype": "none",  # text stays text: it can be read aloud, searched, and takes the page's font
    "text.color": INK,
    "text.parse_math": False,  # names are shown as they are
    "xtick.color": LINE,
    "xtick.labelcolor": MUTED,
    "ytick.color": LINE,
    "ytick.labelcolor": MUTED,
}
TIP = "tip:"
DPI = 160


@dataclass(frozen=True)
class Picture:
    """A plot: the name of its file, what it shows in words, how to draw it on axes, and its size in inches."""

    name: str
    alt: str
    draw: Callable[[Axes], None]
    width: float
    height: float

    def png(self) -> bytes:
        """The picture as a file of its own; equal input gives equal bytes."""
        with _styled(self.name):
            return self._saved(format="png", dpi=DPI)

    def data_uri(self) -> str:
        """The PNG as an address that holds it."""
        return f"data:image/png;base64,{base64.b64encode(self.png()).decode()}"

    def svg(self) -> Markup:
        """The picture as an element of a page: no identifiers that could clash, no addresses, its colours variables."""
        with _styled(self.name):
            root = ET.fromstring(self._saved(format="svg", transparent=True))
        _tidy(root)
        _, _, width, height = root.attrib["viewBox"].split()
        root.attrib = {
            "class": "plot",
            "viewBox": f"0 0 {width} {height}",
            "role": "img",
            "aria-label": printable(self.alt),
            "style": f"max-width: {self.width * 96:.0f}px",
        }
        return Markup(ET.tostring(root, encoding="unicode"))

    def _saved(self, **options) -> bytes:
        figure = Figure(figsize=(self.width, self.height))
        self.draw(figure.subplots())
        file = io.BytesIO()
        figure.savefig(file, **options)
        return file.getvalue()


@contextmanager
def _styled(name: str) -> Iterator[None]:
    """One look, whatever the user's own settings; a salt of its own keeps the identifiers of pictures apart."""
    style = {"svg.hashsalt": name, **STYLE}
    with matplotlib.style.context(["default", style]), warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Glyph .* missing")  # a name in letters that the font has not
        yield


def _tidy(root: ET.Element) -> None:
    """Make matplotlib's document a part of a page, in place."""
    text = ET.tostring(root, encoding="unicode")
    used = set(re.findall(r'(?:href="#|url\(#)([\w-]+)', text))
    for parent in list(root.iter()):
        for child in list(parent):
            if child.tag.rpartition("}")[2] in ("metadata", "style"):  # a date; the whole page's style
                parent.remove(child)
    for element in root.iter():
        element.tag = element.tag.rpartition("}")[2]
        found = {key.rpartition("}")[2]: value for key, value in element.attrib.items()}
        name = found.get("id", "")
        if name not in used:
            found.pop("id", None)
        if name.startswith(TIP):
            title = ET.Element("title")
            title.text = name.removeprefix(TIP)
            element.insert(0, title)
        if "style" in found:
            found["style"] = _themed(found["style"])
        element.attrib = found


def _themed(style: str) -> str:
    return re.sub("#[0-9a-f]{6}", lambda m: f"var(--{VARIABLES[m[0]]})" if m[0] in VARIABLES else m[0], style)


def tip(artist: Artist, text: str) -> None:
    """Text that a page shows while the pointer rests on the artist."""
    artist.set_gid(TIP + printable(text))
