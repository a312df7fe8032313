"""Settings of Sphinx, with three additions: terms that hover, alt texts, docstrings as they are written."""

import re
import sys
from html import escape
from pathlib import Path
from typing import Any

from docutils import nodes

from splitkit.storage.paths import ROOT

# this file is read from the folder of the site's sources
sys.path.insert(0, str(ROOT))

from docs import figure_index, glossary

project = "splitkit"
author = "the splitkit contributors"
html_title = "Why Steering Works: the companion"
extensions = ["myst_nb", "sphinx.ext.autodoc", "sphinx.ext.napoleon", "sphinx.ext.mathjax"]
exclude_patterns = ["extra", "summary.md"]
html_extra_path = ["extra"]
html_static_path = ["_static"]
html_css_files = ["site.css"]
html_show_sourcelink = False
html_show_copyright = False
# a page that is opened from a disk may not fetch the pages found
html_show_search_summary = False
html_use_index = False
html_domain_indices = False
html_context = {"default_mode": "auto"}

nb_execution_mode = "off"
nb_ipywidgets_js: dict[str, Any] = {}
nb_merge_streams = True
myst_enable_extensions = ["dollarmath", "amsmath", "colon_fence"]
myst_heading_anchors = 3
# the vendored MathJax 3: one file, with its fonts inside
mathjax_path = "mathjax.js"

autodoc_member_order = "bysource"
napoleon_use_rtype = False
# `name` in a docstring is code
default_role = "code"
add_module_names = False

html_theme = "sphinx_book_theme"
html_theme_options = {
    "use_download_button": False,
    "use_fullscreen_button": False,
    "show_toc_level": 2,
    "home_page_in_toc": True,
    "pygments_light_style": "a11y-high-contrast-light",
    "pygments_dark_style": "a11y-high-contrast-dark",
}

TERMS = glossary.terms((Path(__file__).parent / "glossary.md").read_text(encoding="utf-8"))
WORDS = re.compile(
    r"\b(" + "|".join(map(re.escape, sorted(TERMS, key=len, reverse=True))) + r")\b", re.IGNORECASE
)


def plain_docstring(_app: Any, what: str, _name: str, _obj: Any, _options: Any, lines: list[str]) -> None:
    """Escape what a formula would mean to reStructuredText, outside of `code`, lists' marks and examples."""
    example = False
    for i, line in enumerate(lines):
        if line and line[0] != " ":
            example = line in ("Example:", "Examples:")
        parts = [line] if example else re.split(r"(`[^`]*`|^ *\* )", line)
        if not example:
            parts[::2] = [re.sub(r"([|*])|(?<=\w)_(?=\W|$)", r"\\\g<0>", part) for part in parts[::2]]
        lines[i] = "".join(parts)
    if what in ("data", "attribute"):
        # napoleon would take the first line up to a colon for a type
        lines.insert(0, "")


def mark_terms(app: Any, doctree: nodes.document, docname: str) -> None:
    """Make the first use of each term of the glossary on a page a link to it that shows its definition."""
    if docname in ("glossary", "genindex", "search") or docname.startswith("api"):
        return
    page, seen = app.builder.get_relative_uri(docname, "glossary"), set()
    for text in list(doctree.findall(nodes.Text)):
        holders = (nodes.literal, nodes.reference, nodes.title, nodes.math, nodes.literal_block, nodes.raw)
        inside, parent = False, text.parent
        while parent is not None and not inside:
            inside, parent = isinstance(parent, holders), parent.parent
        if inside or not isinstance(text.parent, nodes.TextElement):
            continue
        found = next((w for w in WORDS.finditer(str(text)) if TERMS[w[0].lower()] not in seen), None)
        if found is None:
            continue
        anchor, definition = TERMS[found[0].lower()]
        seen.add((anchor, definition))
        mark = (
            f'<a class="term" href="{page}#{anchor}" data-tip="{escape(definition)}">{escape(found[0])}</a>'
        )
        before, after = str(text)[: found.start()], str(text)[found.end() :]
        text.parent.replace(text, [nodes.Text(before), nodes.raw("", mark, format="html"), nodes.Text(after)])


def describe_images(_app: Any, doctree: nodes.document, docname: str) -> None:
    """Give a notebook's figure the alt text that its caption and its function's docstring make."""
    if not docname.startswith("notebooks/"):
        return
    waiting = []
    for node in doctree.findall(lambda n: isinstance(n, nodes.image | nodes.paragraph)):
        if isinstance(node, nodes.image):
            waiting.append(node)
        elif found := re.search(r"plots\.\w+\.\w+", node.astext()) if waiting else None:
            for image in waiting:
                image["alt"] = f"Figure: {figure_index.summary(found[0])}"
            waiting = []


def setup(app: Any) -> None:
    app.connect("autodoc-process-docstring", plain_docstring, priority=400)
    app.connect("doctree-resolved", mark_terms)
    app.connect("doctree-resolved", describe_images)
