"""Accumulate a comparison image by image, part by part. Of its lists, only that of skipped files is unbounded.

All sums are exact, as integers or fractions. So tallies of parts of the images add up to the same numbers however the
images were divided, and in any order.
"""

from __future__ import annotations

import heapq
import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from edgeq.classification import class_name
from edgeq.comparison import metrics
from edgeq.comparison.exact import Exact, add, exact, numbers, texts
from edgeq.comparison.pair import NamedImage, Outputs
from edgeq.comparison.predicted import Predicted
from edgeq.comparison.result import ClassDrift, Comparison, Flip, ModelResult
from edgeq.errors import ModelError

__all__ = ["Score", "Tally"]

_MOST_FLIPS = 1000


@dataclass
class Score:
    """The number of correct predictions of one model.

    Attributes:
        labelled: number of images with a known class.
        top1: number of them for which that class was the most probable; a tie of k classes counts 1/k.
        top5: number of them for which that class was among the five most probable.
    """

    labelled: int = 0
    top1: Exact = 0
    top5: Exact = 0

    def share(self, correct: Exact) -> float | None:
        """Return `top1` or `top5` as a fraction of the labelled images, in 0..1; None if there are none."""
        return float(correct) / self.labelled if self.labelled else None


@dataclass
class _ClassTally:
    images: int = 0
    labelled: int = 0
    reference_top1: Exact = 0
    candidate_top1: Exact = 0
    agreement: Exact = 0


@dataclass
class _Sums:
    """The sums over all images; see `edgeq.comparison.result.Comparison`."""

    images: int = 0
    overlap: int = 0
    ties: int = 0
    flips: int = 0
    only_reference: Exact = 0
    only_candidate: Exact = 0
    agreement: Exact = 0
    kl: Exact = 0
    l1: Exact = 0
    signal: Exact = 0
    noise: Exact = 0


@dataclass
class Tally:
    """The running sums of a comparison, of all images or of a part of them.

    Attributes:
        labels: the classes' names, or empty.
        reference: the reference's correct predictions.
        candidate: the candidate's correct predictions.
        predicted: what the candidate predicts.
    """

    labels: Sequence[str] = ()
    reference: Score = field(default_factory=Score)
    candidate: Score = field(default_factory=Score)
    predicted: Predicted = field(default_factory=Predicted)
    _sums: _Sums = field(default_factory=_Sums)
    _flips: list[Flip] = field(default_factory=list)  # those with the largest margins
    _skipped: list[tuple[int, str, str]] = field(default_factory=list)  # number of the part, file, reason
    _classes: defaultdict[int, _ClassTally] = field(default_factory=lambda: defaultdict(_ClassTally))

    @property
    def images(self) -> int:
        """Number of images added."""
        return self._sums.images

    @property
    def skipped(self) -> tuple[tuple[str, str], ...]:
        """Files that could not be read, each with the reason, in the order of the parts."""
        return tuple((file, reason) for _, file, reason in sorted(self._skipped, key=lambda entry: entry[0]))

    def skip(self, file: str, reason: str) -> None:
        """Add a file that cannot be read."""
        self._skipped.append((0, file, reason))

    def add(self, image: NamedImage, outputs: Outputs) -> None:
        """Add the outputs of both models for one image.

        Raises:
            ModelError: an output is NaN or infinite.
        """
        p, q, sums = outputs.reference, outputs.candidate, self._sums
        for which, values in (("reference", p), ("candidate", q)):
            if not np.isfinite(values).all():
                raise ModelError(f"{image.name}: the {which}'s outputs are NaN or infinite")
        reference_top, candidate_top = metrics.top_set(p), metrics.top_set(q)
        agreement = metrics.shared_top1(reference_top, candidate_top)
        sums.images += 1
        sums.agreement += exact(agreement)
        sums.overlap += outputs.calibrated_on
        sums.ties += reference_top.size > 1 or candidate_top.size > 1
        sums.kl += exact(metrics.kl_divergence(p, q))
        sums.l1 += exact(metrics.l1_distance(p, q))
        sums.signal += exact(outputs.signal)
        sums.noise += exact(outputs.noise)
        self.predicted.add(q)
        group = self._classes[int(reference_top[0]) if image.class_index is None else image.class_index]
        group.images += 1
        group.agreement += exact(agreement)
        if image.class_index is not None:
            self._add_labelled(image.class_index, p, q, group)
        if agreement == 0:
            sums.flips += 1
            self._flips.append(self._flip(image, p, q))
            if len(self._flips) >= 2 * _MOST_FLIPS:
                self._drop_flips()

    def merge(self, part: Tally, number: int) -> None:
        """Add the sums of another tally.

        Args:
            part: the other tally.
            number: its position among all parts, by which the skipped files are sorted.
        """
        add(self._sums, part._sums)
        add(self.reference, part.reference)
        add(self.candidate, part.candidate)
        self.predicted.merge(part.predicted)
        for index, group in part._classes.items():
            add(self._classes[index], group)
        self._skipped += [(number, file, reason) for _, file, reason in part._skipped]
        self._flips += part._flips
        self._drop_flips()

    def to_json(self) -> dict[str, Any]:
        """Return the sums as plain JSON data, without `labels`; exact numbers are text, such as ``3`` or ``1/2``."""
        self._drop_flips()
        return {
            "reference": texts(self.reference),
            "candidate": texts(self.candidate),
            "predicted": self.predicted.to_json(),
            "sums": texts(self._sums),
            "classes": {str(index): texts(group) for index, group in sorted(self._classes.items())},
            "flips": [asdict(flip) for flip in self._flips],
            "skipped": [[file, reason] for file, reason in self.skipped],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Tally:
        """Make a tally from the data that :meth:`to_json` returns.

        Raises:
            KeyError, TypeError, ValueError: the data are something else.
        """
        tally = cls(
            reference=Score(*numbers(data["reference"])),
            candidate=Score(*numbers(data["candidate"])),
            predicted=Predicted.from_json(data["predicted"]),
            _sums=_Sums(*numbers(data["sums"])),
            _flips=[Flip(**flip) for flip in data["flips"]],
            _skipped=[(0, file, reason) for file, reason in data["skipped"]],
        )
        for index, group in data["classes"].items():
            tally._classes[int(index)] = _ClassTally(*numbers(group))
        return tally

    def result(
        self,
        reference: ModelResult,
        candidate: ModelResult,
        notes: tuple[str, ...],
        *,
        candidate_labels: Sequence[str] = (),
        candidate_skip: int = 0,
    ) -> Comparison:
        """Compute the measures from the sums; at least one image must have been added.

        Args:
            reference: results of the reference.
            candidate: results of the candidate.
            notes: sentences for the result.
            candidate_labels: the candidate's own names of the classes, if they differ from `labels`.
            candidate_skip: number of the candidate's classes before the common ones.
        """
        sums, n, labelled = self._sums, self.images, self.reference.labelled
        agreement = float(sums.agreement)
        discordant = (float(sums.only_reference), float(sums.only_candidate), labelled)
        self._drop_flips()
        return Comparison(
            images=n,
            labelled=labelled,
            skipped=self.skipped,
            reference=reference,
            candidate=candidate,
            agreement=agreement / n,
            agreement_ci95=metrics.wilson_interval(agreement, n),
            top1_drop=float(self.reference.top1 - self.candidate.top1) / labelled if labelled else None,
            top1_drop_ci95=metrics.paired_difference_interval(*discordant) if labelled else None,
            mcnemar_p=metrics.mcnemar_p(*discordant[:2]) if labelled else None,
            calibration_overlap=sums.overlap,
            ties=sums.ties,
            kl_mean=float(sums.kl) / n,
            l1_mean=float(sums.l1) / n,
            sqnr_db=metrics.sqnr_db(float(sums.signal), float(sums.noise)),
            flips=tuple(self._flips),
            more_flips=sums.flips - len(self._flips),
            classes=self._class_drift(),
            notes=notes,
            predicted=self.predicted.result(candidate_labels or self.labels, candidate_skip),
            top_probabilities=self.predicted.bins,
        )

    def _drop_flips(self) -> None:
        """Sort the flips, the largest margins first, and keep no more than a limited number."""
        self._flips = heapq.nsmallest(
            _MOST_FLIPS, self._flips, key=lambda flip: (-flip.reference_margin - flip.candidate_margin, flip.file)
        )

    def _add_labelled(
        self, label: int, p: npt.NDArray[np.float64], q: npt.NDArray[np.float64], group: _ClassTally
    ) -> None:
        shares = []
        for score, probabilities in ((self.reference, p), (self.candidate, q)):
            shares.append(metrics.top_k_credit(probabilities, label, 1))
            score.labelled += 1
            score.top1 += exact(shares[-1])
            score.top5 += exact(metrics.top_k_credit(probabilities, label, 5))
        first, second = shares
        self._sums.only_reference += exact(max(0.0, first - second))
        self._sums.only_candidate += exact(max(0.0, second - first))
        group.labelled += 1
        group.reference_top1 += exact(first)
        group.candidate_top1 += exact(second)

    def _flip(self, image: NamedImage, p: npt.NDArray[np.float64], q: npt.NDArray[np.float64]) -> Flip:
        a, b = int(p.argmax()), int(q.argmax())
        return Flip(
            file=image.name,
            label=None if image.class_index is None else self._name(image.class_index),
            reference=self._name(a),
            candidate=self._name(b),
            reference_probability=float(p[a]),
            candidate_probability=float(q[b]),
            reference_margin=float(p[a] - p[b]),
            candidate_margin=float(q[b] - q[a]),
        )

    def _class_drift(self) -> tuple[ClassDrift, ...]:
        drifts = [
            ClassDrift(
                label=self._name(index),
                images=group.images,
                reference_top1=float(group.reference_top1) / group.labelled if group.labelled else None,
                candidate_top1=float(group.candidate_top1) / group.labelled if group.labelled else None,
                agreement=float(group.agreement) / group.images,
            )
            for index, group in sorted(self._classes.items())
            if not math.isclose(group.agreement, group.images)
        ]

        def worst_first(drift: ClassDrift) -> tuple[float, float]:
            return ((drift.candidate_top1 or 0.0) - (drift.reference_top1 or 0.0), drift.agreement)

        return tuple(sorted(drifts, key=worst_first))

    def _name(self, index: int) -> str:
        return class_name(self.labels, index)
