"""Weights that pip has installed as a file of a package: found without importing it, checked before they are read."""

import hashlib
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path


@dataclass(frozen=True)
class InstalledFile:
    """A file of a package, which never changes.

    Attributes
    ----------
    what : str
        What is in it, for errors.
    package, version : str
        The package, as pip knows it.
    file : str
        Its path below the folder that packages are installed in.
    sha256 : str
        In hexadecimal digits.
    """

    what: str
    package: str
    version: str
    file: str
    sha256: str

    def path(self) -> Path:
        """Return where pip has put the file.

        Raises
        ------
        ValueError
            If the package is not installed.
        """
        try:
            return Path(metadata.distribution(self.package).locate_file(self.file))
        except metadata.PackageNotFoundError as error:
            raise ValueError(
                f"{self.what} come with the package {self.package}: pip install {self.package}=={self.version}"
            ) from error

    def read(self, path: Path | None = None) -> bytes:
        """Return what is in the file, at `path` if that is given.

        Raises
        ------
        ValueError
            If it is not there, cannot be read, or is another one.
        """
        path = self.path() if path is None else path
        again = f"reinstall {self.package}=={self.version}"
        if not path.is_file():
            raise ValueError(f"no such file: {path}; {again}")
        try:
            content = path.read_bytes()
        except OSError as error:
            raise ValueError(f"cannot read {path}: {error.strerror or error}") from error
        digest = hashlib.sha256(content).hexdigest()
        if digest != self.sha256:
            raise ValueError(f"{path}: expected SHA-256 {self.sha256}, got {digest}; {again}")
        return content
