"""Content checked against models; what does not fit is explained in one line: where, what was found, the remedy."""

from __future__ import annotations

import difflib
from collections.abc import Sequence
from types import UnionType
from typing import Any, TypeVar, Union, get_args, get_origin

from pydantic import BaseModel, ValidationError

from fdtrain.channel.section import DelayConfig, LossConfig
from fdtrain.errors import InputError
from fdtrain.learning_rates import RateConfig
from fdtrain.models import ModelConfig
from fdtrain.optimizers import MixingConfig, OptimizerConfig
from fdtrain.section import kinds_in, models_in
from fdtrain.tasks import TaskConfig
from fdtrain.topology.radio import RadioConfig
from fdtrain.topology.sources import NetworkConfig, TopologyConfig
from fdtrain.yamlfile import shown

Checked = TypeVar("Checked", bound=BaseModel)

# The sections that are chosen by their ``kind``, which pydantic writes into the location; None: nothing around them.
_TAGGED: dict[str | None, Any] = {
    "model": ModelConfig,
    "task": TaskConfig,
    None: TopologyConfig,
    "topology": TopologyConfig,
    "network": NetworkConfig,
    "base": NetworkConfig,
    "radio": RadioConfig,
    "mixing": MixingConfig,
    "lr_schedule": RateConfig,
    "optimizer": OptimizerConfig,
    "loss": LossConfig,
    "delay": DelayConfig,
}


def check(model: type[Checked], content: Any, source: str, *, whole: bool = False) -> Checked:
    """`content` as a `model`; `whole` as in :func:`explain`.

    Raises:
        InputError: one line that names the source, the key, what was found, and what would be right.
    """
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{source}: {explain(error, [model], whole=whole)}") from None


def explain(error: ValidationError, root: Sequence[type[BaseModel]], *, whole: bool = False) -> str:
    """The first problem in one line, an unknown kind or key before others since it is often their cause.

    `root` are the models of the outermost level; `whole`: it is the whole configuration, and an unknown key may
    belong to another of its sections.
    """
    causes = ["union_tag_invalid", "extra_forbidden"]
    problems = sorted(error.errors(), key=lambda problem: [*causes, problem["type"]].index(problem["type"]))
    problem = problems[0]
    more = f" (and {len(problems) - 1} more)" if len(problems) > 1 else ""
    before = [None if len(root) > 1 else "", *problem["loc"]]
    own = _own_parts(problem["loc"], root)
    kinds = {place for place, last in enumerate(before[:-1]) if last in _TAGGED}
    location = [str(part) for place, part in enumerate(problem["loc"]) if place not in own | kinds]
    where = " ".join(".".join(location).split())  # one line, whatever the keys are
    message, found = problem["msg"].replace("a valid tuple", "a list"), shown(problem["input"])
    match problem["type"]:
        case "extra_forbidden":
            kind = problem["loc"][-2] if len(problem["loc"]) - 2 in kinds else ""
            hint = _hint(problem["loc"], location, root, whole=whole)
            return f"{where}: unknown key{f' of {kind}' if kind else ''}; {hint}{more}"
        case "model_type" | "model_attributes_type" | "dict_type":
            return f"{where}: must be a section of keys, {{key: value, …}}, found {found}{more}"
        case "missing":
            return f"{where}: is missing; it must be given{more}"
        case "value_error":
            return f"{where + ': ' if where else ''}{message.removeprefix('Value error, ')}{more}"
        case "union_tag_not_found":
            return f"{where}: needs a 'kind', one of {_choices(problem)}; found {found}{more}"
        case "union_tag_invalid":
            tag = problem.get("ctx", {}).get("tag", "")
            nearest = difflib.get_close_matches(str(tag), _choices(problem).replace("'", "").split(", "), n=1)
            hint = f"; did you mean '{nearest[0]}'?" if nearest else ""
            return f"{where}.kind: unknown '{tag}', must be one of {_choices(problem)}{hint}{more}"
    return f"{where}: {message[0].lower()}{message[1:]}, found {found}{more}"


def _own_parts(path: tuple[Any, ...], root: Sequence[type[BaseModel]]) -> set[int]:
    """Where in a location pydantic says which of a field's alternatives it tried, or that a key itself is meant."""
    own = {len(path) - 1} if path[-1:] == ("[key]",) else set[int]()
    options = list(root)
    for place, part in enumerate(path[:-1]):
        for field in (option.model_fields[part] for option in options if part in option.model_fields):
            plain = get_origin(field.annotation) in (Union, UnionType) and field.discriminator is None
            alternatives = [one for one in get_args(field.annotation) if one is not type(None)]
            if plain and len(alternatives) > 1:
                own.add(place + 1)
        options = _within(options, part)
    return own


def _hint(
    path: tuple[Any, ...], location: Sequence[str], root: Sequence[type[BaseModel]], *, whole: bool
) -> str:
    """What may have been meant by an unknown key."""
    key, sections = location[-1], root[0].model_fields if whole else ()
    elsewhere = [section for section in sections if key in _siblings((section, ""), root)]
    if elsewhere and location[0] not in elsewhere:
        return f"it belongs to '{elsewhere[0]}'"
    return suggestion(key, _siblings(path, root), cutoff=0.5)


def suggestion(found: str, known: Sequence[str], cutoff: float = 0.6) -> str:
    """The known name that is most like what was found, or all that are known."""
    nearest = difflib.get_close_matches(found, known, n=1, cutoff=cutoff)
    return f"did you mean '{nearest[0]}'?" if nearest else f"known: {', '.join(known)}"


def _choices(problem: Any) -> str:
    return str(problem.get("ctx", {}).get("expected_tags", "")) or ", ".join(
        kinds_in(_TAGGED[problem["loc"][-1] if problem["loc"] else None])
    )


def _siblings(path: tuple[Any, ...], root: Sequence[type[BaseModel]]) -> list[str]:
    """The keys that are known where an unknown one was found."""
    options = list(root)
    for part in path[:-1]:
        options = _within(options, part)
    return sorted({name for option in options for name in option.model_fields})


def _within(options: list[type[BaseModel]], part: Any) -> list[type[BaseModel]]:
    """The sections that there can be one part of a location further on."""
    following: list[type[BaseModel]] = []
    for option in options:
        if part in option.model_fields:
            following += models_in(option.model_fields[part].annotation)
    tagged = [o for o in options if "kind" in o.model_fields and o.model_fields["kind"].default == part]
    return following or tagged or options
