"""An alert in the shape of the JSON contract, for every program that prints, stores or serves one."""

from typing import Any

from schemas.records import Duplicates, to_plain


def alert_fields(alert: Duplicates) -> dict[str, Any]:
    """Return the contract's fields with the evidence beside them; the time is ISO 8601 in milliseconds."""
    return to_plain(alert) | {"time": alert.time.isoformat(timespec="milliseconds")}
