"""Check versions of an INT8 model against the float model that it was made from."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from threading import local
from typing import Any, Protocol

from edgeq.refinement.observation import Sample
from edgeq.threads import run_in_order

__all__ = ["FEWEST_SAMPLES", "Check", "Refinable", "held_out"]

FEWEST_SAMPLES = 5
"""The fewest samples to refine on: one in this many is held out, to check the result on."""


class Refinable(Protocol):
    """What refinement asks of a model, which `edgeq.Model` and `edgeq.TensorModel` answer."""

    path: Path
    runtime: str
    measure: str

    def with_content(self, content: bytes, threads: int = 1) -> Refinable:
        """Make a copy of this model that runs another flatbuffer of the same graph."""

    def tensors(self, sample: Any) -> Sample:
        """Turn a sample into one input tensor per input of the graph."""

    def run(self, tensors: Sample) -> Sample:
        """Run the model on its input tensors and return its output tensors."""

    def meaning(self, outputs: Sample) -> Any:
        """Return what output tensors mean: probabilities, or real numbers."""

    def error(self, expected: Sequence[Any], found: Sequence[Any]) -> float:
        """Return the mean difference of what two models' outputs mean, by this kind of model's measure."""


def held_out(samples: int) -> range:
    """Return the positions of the samples that refining is checked on, for a number of samples."""
    return range(FEWEST_SAMPLES - 1, samples, FEWEST_SAMPLES)


@dataclass(frozen=True)
class Check:
    """Measures versions of an INT8 model against the float model.

    Attributes:
        candidate: the INT8 model.
        expected: what the float model's outputs mean, for each sample.
        tensors: the INT8 model's input tensors, for each sample.
        threads: number of samples to run at the same time.
        answers: what the outputs of each version mean that was measured so far, by the sample's number.
    """

    candidate: Refinable
    expected: Sequence[Any]
    tensors: Sequence[Sample]
    threads: int
    answers: dict[bytes, dict[int, Any]] = field(default_factory=dict)

    def errors(self, content: bytes, *, trial: bool = False) -> tuple[float, float]:
        """Return the mean error of a version of the model on the samples held out, and on the others.

        Args:
            content: the version.
            trial: whether to take only as many of the other samples as are held out.
        """
        checked = held_out(len(self.tensors))
        others = [number for number in range(len(self.tensors)) if number not in checked]
        if trial:
            others = others[:: len(others) // len(checked)]
        answers = self.answers.setdefault(content, {})
        missing = [number for number in (*checked, *others) if number not in answers]
        answers.update(zip(missing, self._run(content, missing), strict=True))
        of_held_out, of_others = (
            self.candidate.error([self.expected[number] for number in part], [answers[number] for number in part])
            for part in (checked, others)
        )
        return of_held_out, of_others

    def _run(self, content: bytes, numbers: Sequence[int]) -> Iterator[Any]:
        """Run a version of the model on some samples, each thread with an interpreter of its own."""
        here = local()

        def answer(number: int) -> Any:
            if not hasattr(here, "model"):
                here.model = self.candidate.with_content(content)
            return here.model.meaning(here.model.run(self.tensors[number]))

        return run_in_order(answer, numbers, self.threads)
