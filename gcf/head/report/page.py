"""Pages from templates: everything inside one file, every text shown as text, nothing ever loaded from elsewhere."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import ChoiceLoader, Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gcf._version import __version__
from gcf.data.text import printable

PLACE = "gcf.head.report"


def render(template: str, *, place: str = PLACE, script: str = "", **content) -> str:
    """The page of a template that extends `page.html`; its script is the only one that the page lets run.

    place: the package in whose folder `templates` the template lies. Another one's page.css, and the script that it
    names, come after those that all pages share.
    """
    own = [] if place == PLACE else [_read(place, "page.css")]
    style = "".join([_read(PLACE, "page.css"), *own])
    script = _read(PLACE, "page.js") + (_read(place, script) if script else "")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment(place).get_template(template)
    return page.render(
        script=Markup(script),
        style=Markup(style),
        digest=digest,
        version=__version__,
        **content,
    )


def _read(place: str, name: str) -> str:
    return files(place).joinpath("templates", name).read_text(encoding="utf-8")


@cache
def _environment(place: str) -> Environment:
    return Environment(
        loader=ChoiceLoader([PackageLoader(where) for where in dict.fromkeys([place, PLACE])]),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
