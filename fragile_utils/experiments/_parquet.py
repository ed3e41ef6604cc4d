"""Tables on disk that are whole or not there: Parquet files, written aside and renamed, and checked when they are read.

A process can be killed, a disk can fill up, a copy can break off. A file of this module is then either what it was
before, or refused when it is read (`Damaged`); its rows never enter a mean.
"""

import hashlib
import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq

from fragile_utils._base import schema
from fragile_utils._base.files import write_bytes

ABOUT, CHECKSUM = b"fragile_utils", b"fragile_utils_sha256"


class Damaged(ValueError):
    """A file that is not what was written."""


def write(path: Path, table: pd.DataFrame, about: dict[str, Any]) -> None:
    """Write `table` and `about` (what JSON can hold) to a Parquet file, which appears whole or not at all.

    Raises
    ------
    ValueError
        If it cannot be written: a full disk, for instance. Nothing is left behind.
    """
    contents = pa.Table.from_pandas(table, preserve_index=False)
    meta = {ABOUT: json.dumps(about, sort_keys=True).encode(), CHECKSUM: _checksum(contents, about).encode()}
    buffer = io.BytesIO()
    pq.write_table(contents.replace_schema_metadata(meta), buffer, compression="zstd")
    write_bytes(path, buffer.getvalue())


def read(path: Path, keys: pd.DataFrame) -> tuple[pd.DataFrame, dict[str, Any]]:
    """Return the table and what was written about it.

    Parameters
    ----------
    path : path
    keys : DataFrame
        The columns by which its rows are known, with the values that they have to have, row by row.

    Raises
    ------
    Damaged
        If the file is cut short, altered, or holds other rows.
    FileNotFoundError
        If there is none.
    ValueError
        If one may not read it.
    """
    try:
        with pq.ParquetFile(path) as file:
            contents = file.read()
        meta = contents.schema.metadata or {}
        about = json.loads(meta[ABOUT])
        expected = _checksum(contents, about).encode()
    except FileNotFoundError:
        raise
    except PermissionError as error:
        raise ValueError(f"cannot read {path}: {error.strerror}") from error
    except (pa.ArrowException, OSError, KeyError, ValueError, TypeError) as error:
        raise Damaged(f"it cannot be read ({schema.reason(error)})") from error
    if meta.get(CHECKSUM) != expected:
        raise Damaged("its checksum is not that of its contents")
    table = contents.to_pandas()
    if len(table) != len(keys):
        raise Damaged(f"it has {len(table)} rows, not {len(keys)}")
    for name, expected in keys.items():
        if name not in table or table[name].tolist() != expected.tolist():
            raise Damaged(f"its {name!r} is that of other rows")
    return table, about


def _checksum(contents: pa.Table, about: dict[str, Any]) -> str:
    """Return the SHA-256 of types and values, as text that no version of a library changes.

    TypeError, where there are values of a type that is never written.
    """
    types = {field.name: str(field.type) for field in contents.schema}
    text = json.dumps([types, contents.to_pydict(), about], sort_keys=True)
    return hashlib.sha256(text.encode()).hexdigest()
