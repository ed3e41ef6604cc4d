"""Docstrings of the package, for the reference that Sphinx makes from them.

They are written to be read in an editor, with formulas as plain text. Here an indented block becomes a literal block,
which keeps its line breaks; the bars of ``|x|`` are kept from being read as a substitution; and a name in `backticks`
may leave out the package: `attacks.run` leads to ``fragile_utils.attacks.run``. And two attributes that are described
together, as in ``maps_before, maps : Tensor``, stay two names, of which Sphinx would take the first for a type.
"""

import re

PACKAGE = "fragile_utils"
LITERAL_OR_BAR = re.compile(r"(``.*?``)|\|")
TWO_NAMES = re.compile(r"^(:(?:ivar|vartype) \w+,) (\w+:)")


def setup(app):
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon makes fields of the sections
    app.connect("autodoc-process-docstring", join_names, priority=600)  # after napoleon
    app.connect("missing-reference", complete_name)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def prepare(app, what, name, obj, options, lines):
    lines[:] = as_restructured_text(lines)


def join_names(app, what, name, obj, options, lines):
    lines[:] = [TWO_NAMES.sub("\\1\u200b\\2", line) for line in lines]  # a space without width, where a line may end


def as_restructured_text(lines):
    """Return the lines of a docstring, literal blocks marked as such and bars escaped."""
    result, outer, literal = [], 0, None
    for line in lines:
        indent = len(line) - len(line.lstrip())
        if line.strip():
            if literal is not None and indent < literal:
                literal = None
            if literal is None and result and not result[-1].strip() and indent > outer:
                result += [" " * outer + "::", ""]
                literal = indent
            if literal is None:
                outer = indent
                line = LITERAL_OR_BAR.sub(lambda match: match[1] or r"\|", line)
        result.append(line)
    return result


def complete_name(app, env, node, contnode):
    """Look a name up again as one of the package, where it was not found as it stands."""
    if node.get("refdomain") != "py" or node["reftarget"].startswith(PACKAGE):
        return None
    domain = env.get_domain("py")
    target = f"{PACKAGE}.{node['reftarget']}"
    return domain.resolve_xref(env, node["refdoc"], app.builder, "obj", target, node, contnode)
