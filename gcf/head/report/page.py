"""Pages from templates: everything inside one file, every text shown as text, nothing ever loaded from elsewhere."""

import base64
import hashlib
from functools import cache
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from gcf._version import __version__
from gcf.head.report.picture import printable

PLACE = "gcf.head.report"


def render(template: str, **content) -> str:
    """The page of a template that extends `page.html`; its script is the only one that the page lets run."""
    script = files(PLACE).joinpath("templates/page.js").read_text(encoding="utf-8")
    style = files(PLACE).joinpath("templates/page.css").read_text(encoding="utf-8")
    digest = base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()
    page = _environment().get_template(template)
    return page.render(
        script=Markup(script),
        style=Markup(style),
        digest=digest,
        version=__version__,
        **content,
    )


@cache
def _environment() -> Environment:
    return Environment(
        loader=PackageLoader(PLACE),
        autoescape=True,
        undefined=StrictUndefined,
        finalize=lambda value: value if isinstance(value, Markup) else printable(value),
        trim_blocks=True,
        lstrip_blocks=True,
    )
