"""The configuration's schema as a table: every key with its type, default and meaning, read off the models."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Annotated, Any, Literal, get_args, get_origin

from pydantic import BaseModel
from pydantic.fields import FieldInfo
from pydantic_core import PydanticUndefined
from rich.markup import escape
from rich.padding import Padding
from rich.table import Table

from fdtrain.config import Config
from fdtrain.section import models_in


def describe_schema(width: int) -> Table:
    """All keys of a configuration; on a console of little `width` a key's meaning stands below it."""
    if width < 110:
        return _narrow()
    table = Table(title="Configuration keys", title_justify="left", box=None, pad_edge=False)
    for heading in ("key", "type", "default", "meaning"):
        table.add_column(heading, overflow="fold", no_wrap=heading == "key")
    for key, kind, default, meaning in keys(Config):
        table.add_row(key, kind, default, escape(meaning))
    return table


def _narrow() -> Table:
    table = Table(
        title="Configuration keys", title_justify="left", box=None, pad_edge=False, show_header=False
    )
    for key, kind, default, meaning in keys(Config):
        facts = kind + (f", default {default}" if default not in ("", "required") else f" {default}".rstrip())
        table.add_row(f"[bold]{key}[/]  {escape(facts)}")
        table.add_row(Padding(escape(meaning), (0, 0, 0, 4)))
    return table


def keys(model: type[BaseModel], prefix: str = "") -> Iterator[tuple[str, str, str, str]]:
    """(key, type, default, meaning) of every field; of alternatives first every ``kind``, then their keys."""
    for name, field in model.model_fields.items():
        key = f"{prefix}{name}"
        options = models_in(field.annotation)
        if not options:
            yield key, _type_name(field), _default(field), field.description or ""
        elif len(options) == 1:
            yield key, "section", _default(field), field.description or ""
            yield from keys(options[0], f"{key}.")
        else:
            yield key, "section", _default(field), field.description or ""
            yield from _alternatives(options, key)


def _alternatives(options: list[type[BaseModel]], key: str) -> Iterator[tuple[str, str, str, str]]:
    takers: dict[tuple[str, str, str, str], list[str]] = {}
    for option in options:
        kind = option.model_fields["kind"].default
        yield f"{key}.kind", f"'{kind}'", "", (option.__doc__ or "").strip().split("\n")[0]
        for line in keys(option, f"{key}."):
            if line[0] != f"{key}.kind":
                takers.setdefault(line, []).append(kind)
    for (name, kind, default, meaning), some in takers.items():
        direct = "." not in name.removeprefix(f"{key}.")  # what lies deeper is its section's
        of = f" [{', '.join(some)}]" if direct and len(some) < len(options) else ""
        yield name, kind, default, meaning + of


def _type_name(field: FieldInfo) -> str:
    limits = [
        f"{sign} {getattr(limit, name)}"
        for limit in [*field.metadata, *_inner(field.annotation)]
        for sign, name in _LIMITS
        if hasattr(limit, name) and abs(getattr(limit, name)) < 2**31
    ]
    return " ".join([_name(field.annotation), *limits])


_LIMITS = ((">", "gt"), ("≥", "ge"), ("<", "lt"), ("≤", "le"))


def _inner(annotation: Any) -> Iterator[Any]:
    """The limits of a number that may be left out."""
    for argument in get_args(annotation):
        if get_origin(argument) is Annotated:
            for limit in get_args(argument)[1:]:
                yield from getattr(limit, "metadata", [limit])


def _name(annotation: Any) -> str:
    origin = get_origin(annotation)
    if origin is Literal:
        return " | ".join(str(choice) for choice in get_args(annotation))
    if origin is Annotated:
        return _name(get_args(annotation)[0])
    if origin is dict:
        return "mapping"
    if origin is tuple:
        return f"list of {_name(get_args(annotation)[0])}"
    if origin is not None:
        return " | ".join(_name(argument) for argument in get_args(annotation) if argument is not type(None))
    words = {"str": "text", "int": "integer", "float": "number", "bool": "true | false"}
    name: str = annotation.__name__
    return words.get(name, name)


def _default(field: FieldInfo) -> str:
    if field.default is PydanticUndefined:
        return "required"
    if field.default is None:
        return "none"
    if isinstance(field.default, BaseModel) and "kind" not in type(field.default).model_fields:
        return ""
    if isinstance(field.default, BaseModel):
        return str(getattr(field.default, "kind", ""))
    return str(field.default).lower() if isinstance(field.default, bool) else str(field.default)
