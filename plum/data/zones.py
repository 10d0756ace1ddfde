"""Time zones of typed columns: Arrow holds moments in UTC, so a zone that is not known can be left out."""

from __future__ import annotations

import logging

import pyarrow as pa

log = logging.getLogger(__name__)


def with_known_zones(table: pa.Table, name: str) -> pa.Table:
    """A table whose columns of an unknown time zone are in UTC; the moments stay the same.

    Args:
        table: of a typed format.
        name: of its file, for messages.
    """
    for at, field in enumerate(table.schema):
        kind = field.type
        if pa.types.is_timestamp(kind) and kind.tz is not None and not _is_known(kind.tz):
            log.warning("%s, column %r: time zone %r is not known; taken as UTC", name, field.name, kind.tz)
            known = pa.timestamp(kind.unit, "UTC")
            table = table.set_column(at, field.name, table.column(at).cast(known))
    return table


def _is_known(zone: str) -> bool:
    try:
        pa.array([0], pa.timestamp("s", zone)).cast(pa.string())  # Arrow's table of zones
        pa.lib.string_to_tzinfo(zone)  # and Python's
    except (pa.ArrowException, ValueError, OSError):
        return False
    return True
