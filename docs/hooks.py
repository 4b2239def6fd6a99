"""For mkdocs: what lies outside the pages (tests, benchmarks) is named on the site, and a link where the repository is read."""

import re

_OUTSIDE = re.compile(r"\[([^\]]+)\]\(\.\./[^)]+\)")


def on_page_markdown(markdown: str, **_: object) -> str:
    """Called by mkdocs with the text of each page."""
    return _OUTSIDE.sub(r"\1", markdown)
