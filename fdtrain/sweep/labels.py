"""Labels of a sweep's axes: values as text, and combinations of them in a line or a file's name."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from typing import Any

from fdtrain.yamlfile import dump, parse

REFERENCE = re.compile(r"\$([A-Za-z0-9][A-Za-z0-9._-]*)")  # to an axis


def as_label(value: Any) -> str:
    """A value as the table and the messages show it: text as it is, all else as YAML on one line."""
    if isinstance(value, str):
        return value
    text = dump({"v": [value]}) if not isinstance(value, (dict, list)) else _flow(value)
    return " ".join(text.removeprefix("v:\n- ").split())


def _flow(value: Any) -> str:
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key}: {as_label(inner)}" for key, inner in value.items()) + "}"
    return "[" + ", ".join(as_label(inner) for inner in value) + "]"


def references(value: Any) -> Iterator[str]:
    """The axes whose labels stand in a value, as ``$AXIS``."""
    if isinstance(value, str) and (found := REFERENCE.fullmatch(value)):
        yield found[1]
    elif isinstance(value, (dict, list)):
        for inner in value.values() if isinstance(value, dict) else value:
            yield from references(inner)


def filled(value: Any, labels: Mapping[str, str]) -> Any:
    """A value with the labels of other axes in the places of their ``$AXIS``, read as YAML."""
    if isinstance(value, str) and (found := REFERENCE.fullmatch(value)):
        return parse(labels[found[1]], value)
    if isinstance(value, dict):
        return {key: filled(inner, labels) for key, inner in value.items()}
    return [filled(inner, labels) for inner in value] if isinstance(value, list) else value


def describe(labels: dict[str, str]) -> str:
    """Labels in a line: a key's value needs its name, a label speaks for itself."""
    return ", ".join(label if _speaks(label) else f"{_last(axis)} {label}" for axis, label in labels.items())


def slug(labels: dict[str, str]) -> str:
    """Labels as a part of a file's name."""
    parts = [label if _speaks(label) else f"{_last(axis)}{label}" for axis, label in labels.items()]
    clean = [re.sub(r"[^A-Za-z0-9.+-]+", "_", part).strip("._") for part in parts]
    return ("-".join(part for part in clean if part) or "run")[:100]


def _speaks(label: str) -> bool:
    return label[0].isalpha() and label not in ("true", "false", "null")


def _last(axis: str) -> str:
    return axis.split(".")[-1]
