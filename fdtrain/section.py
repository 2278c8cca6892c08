"""What all sections of the configuration have in common."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Annotated, Any, get_args

from pydantic import BaseModel, ConfigDict, Field


class Section(BaseModel):
    """Checked when it is made, immutable, and strict: no unknown key, and no text where a number belongs."""

    model_config = ConfigDict(extra="forbid", frozen=True, strict=True, ser_json_inf_nan="constants")


def beside(name: str, base: Path | None) -> str:
    """The absolute path of a file that a configuration names: from `base`, its folder, or else from the working
    directory."""
    path = Path(name)
    if base is not None and (os.path.exists(base / path) or not os.path.exists(path)):
        path = base / path
    return str(path.absolute())


Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Fraction = Annotated[float, Field(ge=0, lt=1)]


def models_in(annotation: Any) -> list[type[BaseModel]]:
    """The sections that a field's annotation allows: none for a plain value, several for a choice by ``kind``."""
    if isinstance(annotation, type):
        return [annotation] if issubclass(annotation, BaseModel) else []
    return [model for argument in get_args(annotation) for model in models_in(argument)]


def kinds_in(annotation: Any) -> list[str]:
    """The ``kind`` of each of them, where there is a choice."""
    return [model.model_fields["kind"].default for model in models_in(annotation)]
