"""Reads a page as a browser's parser does, and says what of it could do anything."""

from html.parser import HTMLParser

EVIL = (
    '"\'></textarea></title></style></script><x-evil onx="1">{{ 7*7 }}'
    '<script>window.evil=1</script><img src=x onerror="window.evil=1">'
)
"""A text that ends every context that it could be in."""
ADDRESSES = ("href", "src", "action", "formaction", "hx-get", "hx-post", "xlink:href", "data")
ACTING = {"style", "hx-on", "hx-vals", "srcdoc"}
OURS = ("/", "#")
OWN = ("console", "console-editor", "map", "map-graph", "map-sketch", "map-table")
SCRIPTS = {f"/static/{name}." for name in (*OWN, "htmx.min", "sigma.min", "graphology.umd.min")}


class Elements(HTMLParser):
    """Every element with its attributes."""

    def __init__(self) -> None:
        super().__init__(convert_charrefs=True)
        self.found: list[tuple[str, dict[str, str]]] = []
        self.text: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.found.append((tag, {name: value or "" for name, value in attrs}))

    def handle_data(self, data: str) -> None:
        self.text.append(data)


def elements(page: str) -> Elements:
    read = Elements()
    read.feed(page)
    read.close()
    return read


def faults(page: str) -> list[str]:
    """Say what a page holds that no page of ours has: foreign scripts, handlers, styles, addresses, elements."""
    found = []
    for tag, given in elements(page).found:
        if tag in {"x-evil", "style", "iframe", "object", "embed", "base", "template", "math"}:
            found.append(f"<{tag}>")
        if tag == "script" and not any(given.get("src", "").startswith(each) for each in SCRIPTS):
            found.append(f"<script {given}>")
        if tag == "img" and not given.get("src", "").startswith("/static/"):
            found.append(f"<img {given}>")
        found += [
            f"{tag} {name}" for name in given if name.startswith(("on", "x-")) or name in {"style", "hx-on", "hx-vals"}
        ]
        found += [
            f"{tag} {name}={given[name]}"
            for name in ADDRESSES
            if name in given and (not given[name].startswith(OURS) or given[name].startswith("//"))
        ]
    return found
