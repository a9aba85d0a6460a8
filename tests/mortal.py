"""A training task that is killed in the middle of a step."""

from __future__ import annotations

from typing import Any


class Dying:
    """Is the task, until `losses` is asked for the last step: there it dies as a killed process does."""

    def __init__(self, task: Any, last_step: int) -> None:
        self.task, self.last_step = task, last_step

    def __getattr__(self, name: str) -> Any:
        return getattr(self.task, name)

    def losses(self, step: int) -> Any:
        if step == self.last_step:
            raise KeyboardInterrupt
        return self.task.losses(step)
