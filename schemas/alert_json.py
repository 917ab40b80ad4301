"""An alert in the shape of the JSON contract, for every program that prints, stores or serves one."""

from collections.abc import Iterable
from typing import Any

from schemas.records import Duplicates, Similar, to_plain

_DECIMALS = 4
"""Of a region's sides: a sixth of a pixel in the largest picture that is compared."""


def alert_fields(alert: Duplicates) -> dict[str, Any]:
    """Return the contract's fields with the evidence beside them.

    The time is ISO 8601 in milliseconds, contents are in hex.
    """
    plain = to_plain(alert) | {"time": alert.time.isoformat(timespec="milliseconds"), "content": alert.content.hex()}
    for duplicate in plain["duplicated"]:
        duplicate |= {"regions": rounded(duplicate["regions"]), "content": duplicate["content"].hex()}
    return plain


def similar_fields(one: Similar) -> dict[str, Any]:
    """Return the fields of an image that is alike and no duplicate."""
    return {
        "relative_path": one.relative_path,
        "relation": one.relation,
        "reason": one.reason,
        "score": one.score,
        "regions": rounded(one.regions),
    }


def rounded(regions: Iterable[Iterable[float]]) -> list[list[float]]:
    """Return regions with as many digits as they need."""
    return [[round(side, _DECIMALS) for side in region] for region in regions]
