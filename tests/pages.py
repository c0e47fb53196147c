"""A page as the tests look at it: what a reader is shown, and what a browser would load."""

from html.parser import HTMLParser


class Page(HTMLParser):
    """The texts of a page's elements: cells of table rows, headings, and whatever would be loaded."""

    def __init__(self, text: str):
        super().__init__()
        self.rows, self.headings, self.loads, self.ids, self.tags, self.texts = [], [], [], set(), [], []
        self._open = []
        self.feed(text)

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        attrs = dict(attrs)
        self.ids |= {attrs["id"]} if "id" in attrs else set()
        self.loads += [attrs[name] for name in ("src", "href", "xlink:href", "data", "srcset") if name in attrs]
        self.loads += [name for name in attrs if name.startswith("on")]
        if tag not in ("meta", "img", "input", "br", "line", "circle"):
            self._open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")
        if tag in ("h1", "h2"):
            self.headings.append("")

    def handle_endtag(self, tag):
        if tag in self._open:
            while self._open.pop() != tag:
                pass

    def handle_data(self, data):
        self.texts.append(data)
        if {"td", "th"} & set(self._open) and "svg" not in self._open:
            self.rows[-1][-1] += data
        if {"h1", "h2"} & set(self._open):
            self.headings[-1] += data
