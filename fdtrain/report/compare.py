"""What tells several runs apart: the keys that differ, and which runs are repetitions of one setting."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from fdtrain.report.read import Run
from fdtrain.sweep.labels import describe

UNSHOWN = ("seed", "name")  # keys that make no other experiment


@dataclass
class Group:
    """Runs that differ in nothing but the seed."""

    label: str
    members: list[int]  # positions among the runs


def flatten(content: Any, prefix: str = "") -> dict[str, str]:
    """Dotted keys and their values as text."""
    if not isinstance(content, dict):
        return {prefix: "–".join(map(str, content)) if isinstance(content, list) else _shown(content)}
    flat: dict[str, str] = {}
    for key, value in content.items():
        flat |= flatten(value, f"{prefix}.{key}" if prefix else str(key))
    return flat


def differing(contents: Sequence[dict[str, Any]]) -> dict[str, list[str]]:
    """The keys that have not the same value in all `contents`, with each one's value."""
    flats = [flatten(content) for content in contents]
    keys = dict.fromkeys(key for flat in flats for key in flat)
    table = {key: [flat.get(key, "–") for flat in flats] for key in keys}
    return {key: values for key, values in table.items() if len(set(values)) > 1}


def common(contents: Sequence[dict[str, Any]]) -> dict[str, str]:
    """The keys that have the same value in all `contents`."""
    apart = differing(contents)
    return {key: value for key, value in flatten(contents[0]).items() if key not in apart}


def group(runs: Sequence[Run]) -> list[Group]:
    """Repetitions with another seed together, in the order of the runs."""
    found: dict[Any, list[int]] = {}
    for position, run in enumerate(runs):
        kept = {key: value for key, value in flatten(run.config).items() if not _is_seed(key)}
        key = tuple(kept.items()) if run.config else position
        found.setdefault(key, []).append(position)
    keys = [key for key in differing([run.config for run in runs]) if not _is_seed(key)]
    groups = []
    for members in found.values():
        first = runs[members[0]]
        label = first.label
        if len(members) > 1:
            flat = flatten(first.config)
            parts = [f"{key.rpartition('.')[2]}={flat[key]}" for key in keys if key in flat]
            same = {
                key: {runs[r].axes.get(key) for r in members} == {value} for key, value in first.axes.items()
            }
            parts = [describe({key: value}) for key, value in first.axes.items() if same[key]] or parts
            label = ", ".join(parts) or str(first.config.get("name", first.label))
        groups.append(Group(label, members))
    labels = [one.label for one in groups]
    for one in groups:
        if labels.count(one.label) > 1:
            one.label = runs[one.members[0]].label
    return groups


def _is_seed(key: str) -> bool:
    return key in UNSHOWN or key.endswith(".seed")


def _shown(value: Any) -> str:
    return f"{value:g}" if isinstance(value, float) else str(value)
