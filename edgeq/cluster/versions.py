"""What must be equal on every worker of a cluster for the result to be the same."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache

__all__ = ["differences", "version_reader", "versions_here"]


def version_reader(runtime: str | None) -> Callable[[], dict[str, str]]:
    """Return a function that reads the versions that a worker has.

    It works on a worker without edgeq, because functions within functions are pickled by value.

    Args:
        runtime: the TFLite runtime that tasks will use, or None.
    """

    def read() -> dict[str, str]:
        try:
            import edgeq
        except ModuleNotFoundError:
            return {"edgeq": "none"}
        found = {"edgeq": edgeq.__version__}
        if runtime is not None:
            from edgeq.errors import RuntimeUnavailableError
            from edgeq.runtime import runtime_version
            from edgeq.runtime.backends import import_runtime

            try:
                import_runtime(runtime)
                found[runtime] = runtime_version(runtime)
            except RuntimeUnavailableError:
                found[runtime] = "none"
        return found

    return read


@cache
def versions_here(runtime: str | None) -> dict[str, str]:
    """Return the versions in this process, see `version_reader`."""
    return version_reader(runtime)()


def differences(name: str, found: dict[str, str], expected: dict[str, str]) -> str | None:
    """Describe how the versions of a worker differ from those here; None if they do not.

    Args:
        name: the worker's address.
        found: its versions.
        expected: the versions here.
    """
    wrong = [
        f"{package} {found.get(package, 'none')} instead of {version}"
        for package, version in expected.items()
        if found.get(package) != version
    ]
    return f"worker {name} has {', '.join(wrong)}; install the same versions on every worker" if wrong else None
