"""Files from the network: fetched once, checked, and in place only when complete."""

import hashlib
import http.client
import shutil
import tarfile
import urllib.request
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import BinaryIO

from tqdm.auto import tqdm

from fragile_utils._base.files import sweep_up, whole_file, whole_folder

CHUNK = 1 << 20
TIMEOUT = 30  # seconds without a byte


@dataclass(frozen=True)
class Download:
    """A file that never changes.

    Attributes
    ----------
    url : str
    sha256 : str
        Of the file, in hexadecimal digits.
    size : int
        In bytes.
    """

    url: str
    sha256: str
    size: int

    def fetch(self, target: Path, progress: bool = False) -> Path:
        """Download the file to `target`, which appears only when it is complete and is the expected file.

        Raises
        ------
        ValueError
            If it cannot be downloaded, is another file, or cannot be written.
        """
        sweep_up(target.parent)
        with whole_file(target) as file:
            try:
                self._copy(file, target.name, progress)
            except urllib.error.URLError as error:
                raise ValueError(f"cannot download {self.url}: {error.reason}") from error
            except (OSError, http.client.HTTPException) as error:
                raise ValueError(f"cannot download {self.url} to {target}: {error}") from error
        return target

    def unpacked(self, folder: Path, wanted: Sequence[str], progress: bool = False) -> Path:
        """Download the archive, and return the folder to which what is wanted of it is unpacked; see `unpack`."""
        archive = self.fetch(folder.with_suffix(".tgz"), progress)
        unpack(archive, folder, wanted)
        archive.unlink()
        return folder

    def _copy(self, file: BinaryIO, name: str, progress: bool) -> None:
        digest, received = hashlib.sha256(), 0
        with (
            urllib.request.urlopen(self.url, timeout=TIMEOUT) as response,
            tqdm(total=self.size, unit="B", unit_scale=True, desc=name, disable=not progress) as bar,
        ):
            while received <= self.size and (chunk := response.read(CHUNK)):
                file.write(chunk)
                digest.update(chunk)
                received += len(chunk)
                bar.update(len(chunk))
        if received != self.size:
            got = f"{received:,}" if received < self.size else "more"
            raise ValueError(f"{self.url}: expected {self.size:,} bytes, got {got}")
        if digest.hexdigest() != self.sha256:
            raise ValueError(f"{self.url}: expected SHA-256 {self.sha256}, got {digest.hexdigest()}")


def unpack(archive: Path, target: Path, wanted: Sequence[str]) -> Path:
    """Unpack the files of a tar archive that match one of the patterns `wanted` to the folder `target`.

    The first component of each name in the archive is left out. Only regular files are written, and only below
    `target`, which appears when it is complete.

    Raises
    ------
    ValueError
        If the archive cannot be read, a pattern matches nothing, or the files cannot be written.
    """
    sweep_up(target.parent)
    with whole_folder(target) as partial:
        try:
            missing = _extract(archive, partial, wanted)
        except (tarfile.TarError, EOFError) as error:
            raise ValueError(f"cannot unpack {archive}: {error}") from error
        except OSError as error:
            raise ValueError(f"cannot unpack {archive} to {target}: {error}") from error
        if missing:
            raise ValueError(f"{archive}: expected files {', '.join(sorted(missing))} in it")
    return target


def _extract(archive: Path, target: Path, wanted: Sequence[str]) -> set[str]:
    """Unpack what matches the patterns `wanted`, and return those that nothing matches."""
    missing = set(wanted)
    with tarfile.open(archive) as tar:
        for member in tar:
            name = PurePosixPath(*PurePosixPath(member.name).parts[1:])
            depth = len(name.parts)
            patterns = [p for p in wanted if name.match(p) and depth == len(PurePosixPath(p).parts)]
            if not member.isfile() or not patterns or ".." in name.parts:
                continue
            missing -= {*patterns}
            path = target / name
            path.parent.mkdir(parents=True, exist_ok=True)
            with tar.extractfile(member) as source, path.open("wb") as file:
                shutil.copyfileobj(source, file)
    return missing
