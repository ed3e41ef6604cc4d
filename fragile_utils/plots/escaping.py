"""Text from anywhere, a file's name or a class's, as a page can show it."""

import html

from fragile_utils._base import schema


def escaped(value: object) -> str:
    """Return a value as text of HTML, in lines; what cannot be seen, marks of direction for instance, as its code."""
    return html.escape("\n".join(map(schema.printable, str(value).split("\n"))))
