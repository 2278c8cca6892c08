"""What is learned: data, loss and measures."""

from __future__ import annotations

from typing import Annotated, Union

from pydantic import Field

from fdtrain.tasks.node_regression import NodeRegression
from fdtrain.tasks.power_allocation import PowerAllocation

TaskConfig = Annotated[Union[NodeRegression, PowerAllocation], Field(discriminator="kind")]  # noqa: UP007
