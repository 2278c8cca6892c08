"""Bad configurations, generated from the schema: every key of every section, wrong in every way its type can be.

Keys are found by walking the models behind :class:`fdtrain.config.Config`, so a section that is added is covered. A
value is used only where the key's annotation rules it out.
"""

from __future__ import annotations

import datetime
import json
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin
from zlib import crc32

import yaml
from pydantic import BaseModel, BeforeValidator, PlainValidator, TypeAdapter, ValidationError, WrapValidator
from pydantic.fields import FieldInfo

from fdtrain.section import kinds_in, models_in

Path = tuple[str | int, ...]
Content = dict[str, Any]


@dataclass(frozen=True)
class Case:
    """A command that has to be refused, and what its message has to say."""

    name: str
    arguments: tuple[str, ...]
    files: dict[str, bytes] = field(default_factory=dict)
    says: tuple[str, ...] = ()  # parts of the message
    suggests: tuple[str, frozenset[str]] | None = None  # an unknown key, and the known ones nearest to it


@dataclass(frozen=True)
class Form:
    """What an annotation takes: the plain types, and the limits of numbers and lengths."""

    types: frozenset[type]
    limits: dict[str, Any]
    choices: tuple[Any, ...]
    items: tuple[Any, ...]  # annotations of a list's items, where it takes one
    anything: bool = False


def form_of(annotation: Any, metadata: Iterable[Any] = ()) -> Form:
    """The form of a field's annotation."""
    types, limits, choices, items = set[type](), dict[str, Any](), list[Any](), list[Any]()
    numeric = 0

    def limit(found: Iterable[Any]) -> None:
        for one in found:
            if isinstance(one, FieldInfo):
                limit(one.metadata)
            for name in ("gt", "ge", "lt", "le", "min_length", "max_length", "pattern", "allow_inf_nan"):
                if getattr(one, name, None) is not None:
                    limits[name] = getattr(one, name)

    def walk(one: Any) -> None:
        nonlocal numeric
        origin = get_origin(one)
        if origin is Annotated:
            inner, *rest = get_args(one)
            limit(rest)
            walk(inner)
        elif origin in (Union, UnionType):
            for inner in get_args(one):
                walk(inner)
        elif origin is Literal:
            choices.extend(get_args(one))
        elif origin in (list, tuple):
            types.add(list)
            items.extend(get_args(one))
        elif origin is dict or (isinstance(one, type) and issubclass(one, BaseModel)):
            types.add(dict)
        elif one is Any:
            types.add(object)
        else:
            numeric += one in (int, float)
            types.add(one)

    limit(metadata)
    walk(annotation)
    if numeric > 1:
        limits.clear()  # whose they are cannot be said
    return Form(frozenset(types), limits, tuple(choices), tuple(items), object in types)


def lenient(model: type[BaseModel], name: str) -> bool:
    """Whether values of the field are changed before they are checked, so that its annotation does not say all."""
    changing = (BeforeValidator, WrapValidator, PlainValidator)
    if any(isinstance(one, changing) for one in model.model_fields[name].metadata):
        return True
    found = model.__pydantic_decorators__.field_validators.values()
    return any(name in one.info.fields and one.info.mode != "after" for one in found)


def valid(annotation: Any, metadata: Iterable[Any] = ()) -> Any:
    """A small value that the annotation takes."""
    models = models_in(annotation)
    if models and get_origin(annotation) not in (list, tuple):
        return next(content for content in map(minimal, models) if fits(content, annotation))
    form = form_of(annotation, metadata)
    low = form.limits.get("ge", form.limits.get("gt", 0))
    if form.choices:
        return form.choices[0]
    if list in form.types:
        inner = [one for one in form.items if one is not Ellipsis]
        count = max(form.limits.get("min_length", 1), len(inner))
        return [valid(inner[k] if k < len(inner) else inner[0]) for k in range(count)]
    if float in form.types:
        return next(
            x for x in (low + 0.5, low + 0.01) if x < form.limits.get("lt", form.limits.get("le", math.inf))
        )
    if int in form.types:
        return low + ("gt" in form.limits)
    return {str: "abc", bool: False, dict: {}}[next(iter(form.types - {NoneType}))]


def fits(content: Any, annotation: Any) -> bool:
    """Whether the schema takes the content."""
    try:
        TypeAdapter(annotation).validate_python(content)
    except ValidationError:
        return False
    return True


def minimal(model: type[BaseModel]) -> Content:
    """The section's required keys, and its kind if it is one of several."""
    content = {}
    for name, info in model.model_fields.items():
        if name == "kind" and isinstance(info.default, str):
            content[name] = info.default
        elif info.is_required():
            content[name] = valid(info.annotation, info.metadata)
    return content


@dataclass(frozen=True)
class Place:
    """A section of the configuration: its model, where it stands, and how its content gets there."""

    model: type[BaseModel]
    path: Path
    put: Callable[[Any], Content]

    def at(self, name: str) -> str:
        """A key as messages name it."""
        return ".".join(map(str, (*self.path, name)))


def places(model: type[BaseModel], base: Content) -> Iterator[Place]:
    """All sections of a configuration, of a choice every kind."""

    def walk(place: Place) -> Iterator[Place]:
        yield place
        for name, info in place.model.model_fields.items():
            yield from below(place, name, info.annotation)

    def below(place: Place, name: str, annotation: Any) -> Iterator[Place]:
        listed = list in form_of(annotation).types
        around = base if not place.path else minimal(place.model)
        for model in models_in(annotation):
            own = [minimal(model)] if listed else minimal(model)
            around = minimal(place.model) if place.path else _around(place.model, base, name, own)

            def put(content: Any, *, around: Content = around) -> Content:
                return place.put({**around, name: [content] if listed else content})

            yield from walk(Place(model, (*place.path, name, *([0] if listed else [])), put))

    yield from walk(Place(model, (), lambda content: content))


def _around(model: type[BaseModel], base: Content, name: str, own: Any) -> Content:
    """What of the base stands beside a section, which may bring other defaults than the base has."""
    kept = [key for key in base if key != name]
    some = ({key: base[key] for key in kept[:count]} for count in range(len(kept) + 1))
    return next((content for content in some if fits({**content, name: own}, model)), base)


WRONG: dict[str, tuple[Any, frozenset[type]]] = {  # name: value, types that take it
    "null": (None, frozenset({NoneType})),
    "bool": (True, frozenset({bool})),
    "integer": (3, frozenset({int, float})),
    "fraction": (2.5, frozenset({float})),
    "text": ("no such thing", frozenset({str})),
    "digits": ("7", frozenset({str})),
    "list": ([["deep", [{}]], None], frozenset({list})),
    "empty list": ([], frozenset({list})),
    "mapping": ({"no": {"such": ["key"]}}, frozenset({dict})),
    "date": (datetime.date(2026, 1, 1), frozenset()),
    "binary": (b"\x00\xff", frozenset()),
}
SURE = ("text", "mapping", "date", "binary")  # what no validator can be expected to make sense of


def wrong_values(model: type[BaseModel], name: str) -> Iterator[tuple[str, Any]]:
    """(what is wrong, value) of every value that the field cannot take."""
    info = model.model_fields[name]
    form = form_of(info.annotation, info.metadata)
    if form.anything:
        return
    soft = lenient(model, name)
    for what, (value, takers) in WRONG.items():
        if not form.types & takers and not (soft and what not in SURE):
            yield what, value
    if soft:
        return
    yield from _out_of_bounds(form)


def _out_of_bounds(form: Form) -> Iterator[tuple[str, Any]]:
    limits, whole = form.limits, int in form.types and float not in form.types
    if form.types & {int, float}:
        step = 1 if whole else 1e-9
        if "ge" in limits:
            yield "below", limits["ge"] - step
            yield "far below", -(10**300) if whole else -1e300
        if "gt" in limits:
            yield "at the lower end", limits["gt"]
            yield "below", limits["gt"] - step
        if "le" in limits:
            yield "above", limits["le"] + (1 if whole else abs(limits["le"]) * 1e-9 + 1e-9)
        if "lt" in limits:
            yield "at the upper end", limits["lt"]
        if limits.keys() & {"le", "lt"}:
            yield "far above", 10**300 if whole else 1e300
        bounded = limits.get("allow_inf_nan") is False
        if whole or bounded or limits.keys() & {"ge", "gt", "le", "lt"}:
            yield "NaN", math.nan
        if whole or bounded or limits.keys() & {"le", "lt"}:
            yield "inf", math.inf
        if whole or bounded or limits.keys() & {"ge", "gt"}:
            yield "-inf", -math.inf
    if str in form.types and "pattern" in limits:
        yield from (("a slash", "a/b"), ("a line feed", "a\n"), ("dots", ".."), ("nothing", ""))
    if str in form.types and limits.get("min_length"):
        yield "too short", "x" * (limits["min_length"] - 1)
    if list in form.types and limits.get("min_length", 0) > 1:
        yield "too few", [1] * (limits["min_length"] - 1)
    if list in form.types and "max_length" in limits:
        yield "too many", [1] * (limits["max_length"] + 1)


def wrong_items(model: type[BaseModel], name: str) -> Iterator[tuple[str, Any]]:
    """The same for the first item of a list of plain values, the others being right."""
    info = model.model_fields[name]
    form = form_of(info.annotation, info.metadata)
    if list not in form.types or models_in(info.annotation) or lenient(model, name):
        return
    inner = [one for one in form.items if one is not Ellipsis]
    good = valid(info.annotation, info.metadata)
    if not isinstance(good, list):
        return
    item = form_of(inner[0])
    for what, (value, takers) in WRONG.items():
        if not item.types & takers:
            yield f"{what} in it", [value, *good[1:]]
    for what, value in _out_of_bounds(item):
        yield f"{what} in it", [value, *good[1:]]


def misspelt(key: str) -> list[str]:
    """Keys one letter away."""
    middle = len(key) // 2
    return [key[: middle + 1] + key[middle:], key + "z", *([key[:-1]] if len(key) > 4 else [])]


def near(found: str, known: Iterable[str]) -> frozenset[str]:
    """The known words that are one letter away from what was found."""

    def apart(short: str, long: str) -> bool:
        return any(long[:k] + long[k + 1 :] == short for k in range(len(long)))

    return frozenset(
        one
        for one in known
        if (len(one) - len(found) == 1 and apart(found, one))
        or (len(found) - len(one) == 1 and apart(one, found))
        or (len(one) == len(found) and sum(a != b for a, b in zip(one, found, strict=True)) == 1)
    )


class Twice(dict[str, Any]):
    """A mapping that is written with its key `again` standing twice."""

    def __init__(self, content: Content, again: str) -> None:
        super().__init__(content)
        self.again = again


def written(value: Any) -> str:
    """YAML in flow style."""
    if isinstance(value, dict):
        entries = [f"{json.dumps(key)}: {written(one)}" for key, one in value.items()]
        if isinstance(value, Twice):
            entries.append(f"{json.dumps(value.again)}: {written(value[value.again])}")
        return "{" + ", ".join(entries) + "}"
    if isinstance(value, list):
        return "[" + ", ".join(map(written, value)) + "]"
    if isinstance(value, bytes):
        return '!!binary "' + yaml.safe_dump(value).splitlines()[1].strip() + '"'
    if isinstance(value, float) and not math.isfinite(value):
        return ".nan" if math.isnan(value) else f"{'-' * (value < 0)}.inf"
    return value.isoformat() if isinstance(value, datetime.date) else json.dumps(value, ensure_ascii=False)


def _turn(text: str, *, of: int) -> int:
    return crc32(text.encode()) % of


def schema_cases(
    model: type[BaseModel], base: Content, commands: list[tuple[str, ...]]
) -> Iterator[tuple[str, Case]]:
    """(category, case) of every key's mistakes. A key that several kinds share is tried in full at the first, and in
    two ways at each of the others."""
    seen = set[str]()
    all_keys = {name for place in places(model, base) for name in place.model.model_fields}

    def case(name: str, content: Content, *says: str, suggests: Any = None) -> Case:
        command = commands[_turn(name, of=len(commands))]
        return Case(name, command, {"c.yaml": written(content).encode()}, says, suggests)

    for place in places(model, base):
        own = minimal(place.model) if place.path else base
        kind = own.get("kind", "") if place.path else ""
        where = ".".join(map(str, place.path)) + (f"[{kind}]" if kind else "")
        for name, info in place.model.model_fields.items():
            key, label = place.at(name), f"{where}.{name}"
            chosen = name == "kind" and bool(kind)
            identity = f"{place.path[-1:]}{name}{info.annotation}{info.metadata}"
            shared, turn = identity in seen, _turn(label, of=97)
            seen.add(identity)
            wrong = [] if chosen else [*wrong_values(place.model, name), *wrong_items(place.model, name)]
            for number, (what, value) in enumerate(wrong):
                if not shared or number in (turn % len(wrong), (turn + 5) % len(wrong)):
                    content = place.put({**own, name: value})
                    yield _category(what), case(f"{label}: {what}", content, key)
            known = place.model.model_fields
            for wrong_key in misspelt(name)[: 1 if shared else None]:
                if wrong_key not in all_keys:
                    content = {wrong_key if one == name else one: value for one, value in own.items()}
                    content.setdefault(wrong_key, 1)
                    if not chosen:
                        found = wrong_key, near(wrong_key, known)
                        named = f"{place.at(wrong_key)}: unknown key"
                        yield (
                            "unknown key",
                            case(f"{label}: {wrong_key}", place.put(content), named, suggests=found),
                        )
            if name in own:
                yield (
                    "key given twice",
                    case(f"{label}: twice", place.put(Twice(own, name)), name, "stands twice"),
                )
                less = {one: value for one, value in own.items() if one != name}
                if info.is_required():
                    yield "missing key", case(f"{label}: missing", place.put(less), key, "is missing")
        text = written(place.put({**own, "@": 1})).replace(
            '"@"', ("7", "null", "true", "1.5")[_turn(where, of=4)]
        )
        yield "key that is no text", Case(f"{where}: no text", commands[0], {"c.yaml": text.encode()})
        yield from _kinds(case, place, own)


def _kinds(case: Any, place: Place, own: Content) -> Iterator[tuple[str, Case]]:
    """Choices by ``kind``: none, an unknown one, one of another type."""
    for name, info in place.model.model_fields.items():
        options = models_in(info.annotation)
        if len(options) < 2 or list in form_of(info.annotation).types:
            continue
        key = place.at(name)
        first = kinds_in(info.annotation)[0]
        for value in ("nosuch", f"{first}z", "", 3, None, True, 0.5, [first], {"kind": first}):
            content = place.put({**own, name: {"kind": value}})
            says = [f"{key}.kind"]
            if value == f"{first}z":
                says.append(f"did you mean '{first}'?")
            yield "unknown kind", case(f"{key}: kind {value!r}", content, *says)


def _category(what: str) -> str:
    outside = (
        "below",
        "above",
        "end",
        "NaN",
        "inf",
        "short",
        "few",
        "many",
        "slash",
        "feed",
        "dots",
        "nothing",
    )
    return "out of bounds" if any(word in what for word in outside) else "wrong type"


def floats_that_take_nan(model: type[BaseModel], base: Content) -> list[str]:
    """The keys for numbers whose schema lets NaN through."""
    return [
        place.at(name)
        for place in places(model, base)
        for name, info in place.model.model_fields.items()
        if float in form_of(info.annotation, info.metadata).types
        and get_origin(info.annotation) not in (list, tuple)
        and fits({**minimal(place.model), name: math.nan}, place.model)
    ]
