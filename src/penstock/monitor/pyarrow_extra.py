"""PyArrow reads and writes tables; it is an extra, and imported only when it is needed."""

from typing import Any

from penstock.core.errors import Unsupported

Batch = Any
"""A ``pyarrow.RecordBatch``, which only those who have the extra can import."""


def require_pyarrow() -> None:
    """Check that PyArrow is installed.

    Raises:
        Unsupported: it is not.
    """
    try:
        import pyarrow  # noqa: F401, PLC0415 - an extra
    except ModuleNotFoundError:
        raise Unsupported("tables of this form need the extra 'parquet': pip install 'penstock[parquet]'") from None
