"""The glossary's terms, for links that show a definition."""

import re

ENTRY = re.compile(r"(?m)^(?P<terms>(?:\w[^\n]*\n)+)(?P<definition>(?:  +[^\n]+\n)+)")


def terms(page: str) -> dict[str, tuple[str, str]]:
    """Term (lower case) -> its anchor on the page and its definition as plain text.

    Of a page with a `{glossary}` directive: lines of terms, then an indented definition.
    """
    body = page.split("{glossary}", 1)[1]
    found = {}
    for entry in ENTRY.finditer(body):
        words = entry["terms"].strip().splitlines()
        definition = " ".join(re.sub(r"[`*$]", "", entry["definition"]).split())
        for word in words:
            anchor = "term-" + re.sub(r"[^a-zA-Z0-9]+", "-", words[0]).strip("-")
            found[word.lower()] = (anchor, definition)
    return found
