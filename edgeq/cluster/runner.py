"""The interface of what runs tasks, and its implementation in this process."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

from edgeq.closing import Closing
from edgeq.errors import EdgeqError, one_line

__all__ = ["LocalRunner", "Runner", "Task"]

Task = Callable[..., dict[str, Any]]
"""A function at the top level of a module of edgeq, from JSON data as keyword arguments to JSON data."""


class Runner(Closing):
    """Runs tasks, for ``with open_runner(...) as runner``."""

    @property
    def parallel(self) -> int:
        """Number of tasks that run at the same time."""
        return 1

    @abstractmethod
    def run(self, task: Task, calls: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """Call a task with several sets of arguments, and yield the results as they come.

        Args:
            task: the task. It may be called again after a worker died, so it must not change anything.
            calls: a number and the arguments of each call. They are taken when they are needed.

        Yields:
            The number and the result of each call, in any order.

        Raises:
            EdgeqError: a task failed, or the cluster is unusable.
        """

    def close(self) -> None:
        """Release the cluster; tasks that were not finished are given up."""


class LocalRunner(Runner):
    """Runs tasks one after another in this process. A task may use several threads."""

    def run(self, task: Task, calls: Iterable[tuple[int, Mapping[str, Any]]]) -> Iterator[tuple[int, dict[str, Any]]]:
        """See :meth:`Runner.run`."""
        for number, arguments in calls:
            try:
                result = task(**arguments)
            except OSError as error:
                raise EdgeqError(one_line(error)) from None
            yield number, result
