"""What the settings of every task tell the rest of the configuration."""

from __future__ import annotations

from pathlib import Path
from typing import Any, ClassVar, Self

from fdtrain.section import Section


class TaskSection(Section):
    """A choice of ``task``; what is here holds where a task has no wishes."""

    model_kind: ClassVar[str] = "gcnn"  # the model that it trains
    topology_kind: ClassVar[str | None] = None  # the only network that it has; None: any that is nobody's own

    @classmethod
    def complete(cls, content: dict[str, Any]) -> None:
        """Fill in what a configuration of this task leaves out of other sections."""

    def resolved(self, base: Path | None) -> Self:
        """The same with the paths of files made absolute: from `base`, or else from the working directory."""
        return self

    def adds_layers(self) -> bool:
        """Whether the nodes' model has others than the layers of the ``model`` section."""
        return False

    def max_batch(self) -> int | None:
        """The samples that there are for a mini-batch, where that is known without reading data."""
        return None

    def of_one_minibatch(self, batch: int) -> dict[str, Any]:
        """The settings to change for an epoch of one mini-batch of B = `batch` samples."""
        raise NotImplementedError
