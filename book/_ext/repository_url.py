"""The repository's address: written in pyproject.toml, carried from there to the files that cannot read it.

python book/_ext/repository_url.py [URL]

With a URL, pyproject.toml is rewritten first. CITATION.cff says which address the other files hold so far.
tests/test_project.py checks that all agree.
"""

import re
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
CARRIERS = ("pyproject.toml", "README.md", "CONTRIBUTING.md", "CHANGELOG.md", "SECURITY.md", "book/*.md")
CARRIERS += ("chapters/*.ipynb", "CITATION.cff")


def read(root=ROOT):
    """The address in pyproject.toml, `https://github.com/OWNER/NAME`."""
    return _search(r'^Repository = "(.+)"$', root / "pyproject.toml")


def carry(url=None, root=ROOT):
    """Write `url` (default: the address in pyproject.toml) wherever the old one stands; return the files changed."""
    new = _owner_and_name(url or read(root))
    old = _owner_and_name(_search(r'^repository-code: "(.+)"$', root / "CITATION.cff"))
    changed = []
    if url and _owner_and_name(read(root)) != new:
        _rewrite(root / "pyproject.toml", r'(?m)^(Repository = ").+"$', rf'\g<1>https://github.com/{"/".join(new)}"')
        changed.append("pyproject.toml")
    # CITATION.cff comes last: a run that was interrupted is repeated from where it stood.
    for path in (path for pattern in CARRIERS for path in sorted(root.glob(pattern))):
        count = _rewrite(path, rf"(github(?:\.com)?/){_pattern(old, '/')}", rf"\g<1>{'/'.join(new)}")
        count += _rewrite(path, _pattern(old, r"\.github\.io/"), ".github.io/".join(new))
        if count and old != new:
            changed.append(str(path.relative_to(root)))
    return [*dict.fromkeys(changed)]


def _owner_and_name(url):
    match = re.fullmatch(r"https://github\.com/([\w-]+)/([\w.-]+?)(?:\.git)?/?", url)
    if match is None:
        raise ValueError(f"expected https://github.com/OWNER/NAME, got {url!r}")
    return match.groups()


def _pattern(owner_and_name, separator):
    return separator.join(map(re.escape, owner_and_name)) + r"(?![\w-])"


def _search(pattern, path):
    match = re.search(pattern, path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    if match is None:
        raise ValueError(f"{path} has no line like {pattern}")
    return match[1]


def _rewrite(path, pattern, replacement):
    text, count = re.subn(pattern, replacement, path.read_text(encoding="utf-8"))
    if count:
        path.write_text(text, encoding="utf-8")
    return count


if __name__ == "__main__":
    try:
        files = carry(*sys.argv[1:2])
    except ValueError as error:
        sys.exit(f"url: {error}")
    print("\n".join(f"rewrote {file}" for file in files) or "every file agrees with pyproject.toml")
