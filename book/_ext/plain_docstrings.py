"""Docstrings of the package, for the reference that Sphinx makes from them.

They are written to be read in an editor, with formulas as plain text. Here an indented block becomes a literal block,
which keeps its line breaks; the bars of ``|x|`` are kept from being read as a substitution; and two attributes that are
described together, as in ``maps_before, maps : Tensor``, stay two names, of which Sphinx would take the first for a
type.

The reference describes things where they are defined, and readers write them otherwise: `attacks.run` is defined in
``fragile_utils.attacks.maps``. So a name in `backticks` leads to what Python finds under it, in the module whose
docstring it is, in its room or in the package; and each function and class is shown under the name that one writes.
"""

import importlib
import re
from types import ModuleType

from sphinx import addnodes
from sphinx.transforms.post_transforms import SphinxPostTransform

PACKAGE = "fragile_utils"
LITERAL_OR_BAR = re.compile(r"(``.*?``)|\|")
TWO_NAMES = re.compile(r"^(:(?:ivar|vartype) \w+,) (\w+:)")


def setup(app):
    app.connect("autodoc-process-docstring", prepare, priority=400)  # before napoleon makes fields of the sections
    app.connect("autodoc-process-docstring", join_names, priority=600)  # after napoleon
    app.connect("autodoc-process-signature", readable_defaults)
    app.add_post_transform(FollowNames)
    app.connect("doctree-read", show_as_written)
    return {"parallel_read_safe": True, "parallel_write_safe": True}


def readable_defaults(app, what, name, obj, options, signature, returns):
    """A default that a dataclass makes afresh is no expression: Sphinx could read nothing of the whole signature."""
    return signature and signature.replace("<factory>", "..."), returns


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


# --- Names ------------------------------------------------------------------------------------------------------------


class FollowNames(SphinxPostTransform):
    """Gives each name of the package in full, as it is where it is defined."""

    default_priority = 9  # before Sphinx looks names up

    def run(self, **kwargs):
        known = self.env.get_domain("py").objects
        for node in self.document.findall(addnodes.pending_xref):
            if node.get("refdomain") == "py":
                names = meanings(node["reftarget"], node.get("py:module"), node.get("py:class"))
                full = next((name for name in names if name in known), None)
                if full is not None:
                    node.attributes.update({"reftarget": full, "refspecific": False})


def meanings(name, module=None, of=None):
    """Yield what a name of the package may stand for in a class, its module and those around it; see `defined`."""
    if name.startswith(PACKAGE):
        yield from defined(name)
    place = f"{module or PACKAGE}.{of}" if of else module or PACKAGE
    while place:
        yield from defined(f"{place}.{name}", modules="." in name)  # `data` alone is a parameter, and no module
        place = place.rpartition(".")[0]


def defined(name, modules=True):
    """Yield the full name of what Python finds under a dotted name, as it is where it is defined, or nothing."""
    try:
        found = look_up(name)
    except (ImportError, AttributeError):
        return
    if isinstance(found, ModuleType):
        yield from [found.__name__] * modules
    elif hasattr(found, "__qualname__"):
        yield f"{found.__module__}.{found.__qualname__}"
    else:  # a property, which does not know its name
        owner, _, last = name.rpartition(".")
        yield from (f"{place}.{last}" for place in defined(owner))


def look_up(name):
    """What a dotted name stands for: in a package, what it has of that name comes before a file of that name."""
    first, *others = name.split(".")
    found = importlib.import_module(first)
    for other in others:
        if isinstance(found, ModuleType) and not hasattr(found, other):
            importlib.import_module(f"{found.__name__}.{other}")
        found = getattr(found, other)
    return found


def show_as_written(app, doctree):
    """Put before the name of each function and class what one writes before it."""
    for signature in doctree.findall(addnodes.desc_signature):
        if (signature.get("module") or "").startswith(PACKAGE) and not signature["class"]:
            name = next(signature.findall(addnodes.desc_name))
            before = f"{written(signature['module'], signature['fullname'])}."
            name.parent.insert(name.parent.index(name), addnodes.desc_addname(before, before))


def written(module, name):
    """What one writes before a name: its room, where that has it among its public names, else its module."""
    room, _, file = module.rpartition(".")
    public = getattr(importlib.import_module(room), "__all__", ())
    return room.rpartition(".")[2] if name in public else file
