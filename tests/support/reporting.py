"""A report written from alerts as plain data, as `find` would write it."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from cli.output_checks import make_report_files
from cli.report.alike import SHOWN_SETS, alike_sets, paths_of
from cli.report.file_looks import look_at_all
from cli.report.found_groups import FoundGroup, describe_groups, evidence_by_pair, group_pairs
from cli.report.pages import ReportContents, write_report
from imagetools.grouping.records import Edge, ImageKey
from imagetools.grouping.relations import Relation
from imagetools.image_root import ImageRoot


def write_plain_report(
    folder: Path,
    alerts: Sequence[Mapping[str, Any]],
    images: ImageRoot,
    title: str = "Duplicates",
    stats: Mapping[str, Any] | None = None,
    similar: Sequence[Mapping[str, Any]] = (),
    similar_count: int = 0,
) -> list[FoundGroup]:
    """Write a report, and return its groups. Pairs that state no relation show the same picture."""
    told = [
        alert | {"duplicated": [{"relation": "same"} | dict(one) for one in alert["duplicated"]]}
        for alert in map(dict, alerts)
    ]
    evidence = evidence_by_pair(told)
    edges = [
        Edge(ImageKey(candidate, candidate), ImageKey(neighbor, neighbor), Relation(one["relation"]), one["score"])
        for (neighbor, candidate), one in evidence.items()
    ]
    grouping = group_pairs(edges, (), {}, lambda left, right: Relation.SAME)
    alike = alike_sets(similar)
    paths = [member.image.path for group in grouping.groups() for member in group.members]
    make_report_files(folder)
    looks = look_at_all(folder, images, dict.fromkeys([*paths, *paths_of(alike[:SHOWN_SETS])]))
    groups = describe_groups(grouping, evidence, looks, images.folder)
    contents = ReportContents(
        title,
        groups,
        evidence,
        looks,
        stats or {},
        alike=alike,
        alike_count=similar_count,
        alike_kept=len(similar),
        models=sorted({alert["model"] for alert in alerts if alert.get("model")}),
        thresholds=sorted({alert["threshold"] for alert in alerts}),
    )
    write_report(folder, images.folder, contents)
    return groups
