"""What is learned: data, loss and measures."""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import Field

from fdtrain.section import models_in
from fdtrain.tasks.link_scheduling import LinkScheduling
from fdtrain.tasks.node_regression import NodeRegression
from fdtrain.tasks.power_allocation import PowerAllocation
from fdtrain.tasks.section import TaskSection

TaskConfig = Annotated[
    Union[NodeRegression, PowerAllocation, LinkScheduling],  # noqa: UP007
    Field(discriminator="kind"),
]
TASKS: dict[str, type[TaskSection]] = {
    model.model_fields["kind"].default: model
    for model in models_in(TaskConfig)
    if issubclass(model, TaskSection)
}
