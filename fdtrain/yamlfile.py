"""The YAML files of configurations and sweeps: read, changed by ``key.subkey=value`` overrides, and written."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import yaml

from fdtrain.errors import InputError

MAX_BYTES = 4_000_000  # of a file; the loader takes seconds for a megabyte
MAX_DEPTH = 50  # sections within sections


class _Loader(yaml.SafeLoader):
    """YAML 1.1 with two of its traps removed: ``1e-3`` is a number, and a key may stand only once."""


class _Dumper(yaml.SafeDumper):
    """Writes what :class:`_Loader` reads: a text that looks like a number is quoted."""


for _side in (_Loader, _Dumper):
    _side.add_implicit_resolver(
        "tag:yaml.org,2002:float",
        re.compile(r"^[-+]?[0-9][0-9_]*(\.[0-9_]*)?[eE][-+]?[0-9]+$"),
        list("-+0123456789"),
    )


def _mapping(loader: _Loader, node: yaml.MappingNode) -> dict[Any, Any]:
    seen: set[str] = set()
    for key, _ in node.value:
        if key.value in seen:
            raise yaml.constructor.ConstructorError(
                None, None, f"key '{key.value}' stands twice", key.start_mark
            )
        seen.add(key.value)
    return yaml.SafeLoader.construct_mapping(loader, node, deep=True)


_Loader.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, _mapping)


def read_mapping(path: Path, max_bytes: float = MAX_BYTES) -> dict[str, Any]:
    """The content of a YAML file, not checked against any schema.

    Raises:
        InputError: it cannot be read, is larger than `max_bytes`, no valid YAML, or no mapping.
    """
    try:
        size = path.stat().st_size
        if size > max_bytes:
            raise InputError(f"{path}: must be a file of at most {max_bytes:,} bytes, found {size:,}")
        text = path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: cannot be read: {getattr(error, 'strerror', None) or error}") from None
    content = parse(text, str(path))
    if not isinstance(content, dict):
        raise InputError(f"{path}: must be a mapping of keys to values, found {shown(content)}")
    return content


def parse(text: str, source: str) -> Any:
    """What a YAML text says; `source` names it in messages.

    Raises:
        InputError: it is not valid.
    """
    try:
        return yaml.load(text, _Loader)  # a SafeLoader
    except Exception as error:  # a value that is not what its tag says makes the loader raise anything
        mark = getattr(error, "problem_mark", None)
        where = f" line {mark.line + 1}" if mark else ""
        problem = " ".join(str(getattr(error, "problem", None) or _cause(error)).split())
        raise InputError(f"{source}{where}: not valid YAML: {problem}") from None


def _cause(error: Exception) -> str:
    """What a loader meant that is no YAML error: of these, some say only which Python operation failed."""
    if isinstance(error, RecursionError):
        return "lists or mappings are nested too deeply"
    if isinstance(error, KeyError | AttributeError | IndexError):
        return "a value is not what its !!tag says"
    return str(error)


def dump(content: Any) -> str:
    """YAML that :func:`read_mapping` reads back equal."""
    return yaml.dump(content, Dumper=_Dumper, sort_keys=False, allow_unicode=True)


def apply_override(content: dict[str, Any], override: str) -> None:
    """Set in `content` what ``key.subkey=value`` says.

    Raises:
        InputError: it does not look like that, or goes into what is no section.
    """
    key, equals, value = override.partition("=")
    source = f"override '{override if len(override) <= 200 else override[:199] + '…'}'"
    if not equals or not all(key.split(".")):
        raise InputError(f"{source}: must look like section.key=value, e.g. training.epochs=5")
    if key.count(".") >= MAX_DEPTH:
        raise InputError(f"{source}: no key is so deep; it must look like section.key=value")
    assign(content, key, parse(value, source), source)


def assign(content: dict[str, Any], key: str, value: Any, source: str) -> None:
    """Set the dotted `key` in nested dictionaries; sections that are not there are made.

    Raises:
        InputError: the key goes into what is no section.
    """
    *outer, last = key.split(".")
    section = content
    for part in outer:
        section = section.setdefault(part, {})
        if not isinstance(section, dict):
            raise InputError(f"{source}: '{part}' is not a section")
    section[last] = value


def shown(value: Any) -> str:
    """A value as messages show it, not longer than they can bear."""
    text = repr(value)
    return text if len(text) <= 60 else text[:57] + "…"
