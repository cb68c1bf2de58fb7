"""The grid of a sweep: which networks to try, in which formats, and the limits that they must meet."""

from __future__ import annotations

from dataclasses import dataclass

from edgeq.conversion.formats import FORMATS
from edgeq.errors import InputError
from edgeq.networks import Architecture, choose_output_stride, default_output_stride

__all__ = ["SweepGrid", "SweepLimits"]


AUTO = "auto"


@dataclass(frozen=True)
class SweepGrid:
    """All combinations of these values are tried. A cell of the grid is one architecture in one format.

    Attributes:
        networks: families, names in ``edgeq.networks.FAMILIES``.
        alphas: width multipliers.
        sizes: (height, width) of the input in pixels.
        output_strides: output strides; None for the default of the input's size, ``auto`` for the largest that gives a
            last feature map of at least 4x4.
        formats: names in ``edgeq.conversion.FORMATS``.
    """

    networks: tuple[str, ...] = ("mobilenet_v2",)
    alphas: tuple[float, ...] = (1.0,)
    sizes: tuple[tuple[int, int], ...] = ((224, 224),)
    output_strides: tuple[int | str | None, ...] = (None,)
    formats: tuple[str, ...] = ("int8",)

    def architectures(self, classes: int) -> list[Architecture]:
        """Return the architectures of the grid, without duplicates.

        Raises:
            InputError: a name, width or size is invalid, or an output stride does not fit a size.
        """
        for form in self.formats:
            if form not in FORMATS:
                raise InputError(f"format {form!r}: must be one of {', '.join(FORMATS)}")
        found = {}
        for family in self.networks:
            for alpha in self.alphas:
                for height, width in self.sizes:
                    for stride in self.output_strides:
                        choose = choose_output_stride if stride == AUTO else default_output_stride
                        chosen = stride if isinstance(stride, int) else choose(height, width)
                        architecture = Architecture(family, height, width, alpha, chosen, classes)
                        found[architecture.name] = architecture
        if not found or not self.formats:
            raise InputError("the grid is empty: give at least one network, width, size and format")
        return list(found.values())


@dataclass(frozen=True)
class SweepLimits:
    """What a cell must meet; None means no limit.

    Attributes:
        max_ms: largest median latency in milliseconds, on each of the boards.
        max_bytes: largest size of the file in bytes.
        max_ram_bytes: largest peak memory of the process in bytes, on each of the boards.
        min_top1: smallest validation accuracy of the pick "fastest", in [0, 1].
    """

    max_ms: float | None = None
    max_bytes: int | None = None
    max_ram_bytes: int | None = None
    min_top1: float | None = None

    def missed(self, latency_ms: float, size_bytes: int, ram_bytes: int | None) -> str:
        """Return a sentence on the limits that measured values exceed; empty if they meet all limits."""
        reasons = []
        if self.max_ms is not None and latency_ms > self.max_ms:
            reasons.append(f"{latency_ms:.3g} ms is above {self.max_ms:g} ms")
        if self.max_bytes is not None and size_bytes > self.max_bytes:
            reasons.append(f"{size_bytes} bytes are more than {self.max_bytes}")
        if self.max_ram_bytes is not None and ram_bytes is not None and ram_bytes > self.max_ram_bytes:
            reasons.append(f"{ram_bytes / 1e6:.1f} MB of memory are more than {self.max_ram_bytes / 1e6:.1f} MB")
        return ", ".join(reasons)

    def excess(self, latency_ms: float, size_bytes: int, ram_bytes: int | None) -> float:
        """Return the largest ratio of a measured value to its limit; at most 1 if all limits are met."""
        ratios = [
            value / limit
            for value, limit in (
                (latency_ms, self.max_ms),
                (size_bytes, self.max_bytes),
                (ram_bytes, self.max_ram_bytes),
            )
            if value is not None and limit is not None
        ]
        return max(ratios, default=0.0)
