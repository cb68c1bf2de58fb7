"""A phase of training, on networks so small that NumPy says what must come out."""

from __future__ import annotations

import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.training.history import Epoch
from edgeq.training.phases import Phase, PhaseSettings, measure, one_cycle

keras = pytest.importorskip("keras")

CLASSES, INPUTS, COUNT = 3, 4, 20
RNG = np.random.default_rng(0)
X = RNG.normal(size=(COUNT, INPUTS)).astype(np.float32)
LABELS = RNG.integers(0, CLASSES, COUNT)
ONE_STEP = PhaseSettings(epochs=2, learning_rate=0.1, weight_decay=0.3, batch=COUNT, label_smoothing=0.1)

Validate = Callable[[], tuple[float, float]]


def softmax(logits: Any) -> Any:
    return np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)


def linear(dropout: float = 0.0) -> Any:
    """Softmax regression, with the same weights each time."""
    keras.utils.set_random_seed(7)
    image = keras.Input((INPUTS,))
    x = keras.layers.Dropout(dropout)(image) if dropout else image
    return keras.Model(image, keras.layers.Dense(CLASSES, name="predictions")(x))


def make(settings: PhaseSettings, model: Any = None, begun_with: Epoch | None = None) -> Phase:
    model = model or linear()
    return Phase(
        "head", model, model.trainable_variables, model.variables, LABELS, CLASSES, settings, begun_with=begun_with
    )


def train(phase: Phase, validate: Validate | None = None) -> Epoch:
    def examples(places: Any, step: int) -> Any:
        return X[places]

    measured = validate or (lambda: measure(phase.model, lambda part: X[part], LABELS))
    return phase.train_epoch(examples, measured, lambda done, total: None)


def values(phase: Phase) -> list[Any]:
    return [variable.numpy() for variable in phase.model.variables]


def scripted(*results: tuple[float, float]) -> Validate:
    """A validation that gives these losses and accuracies, one after the other."""
    rest = iter(results)
    return lambda: next(rest)


class TestLearningRate:
    def test_one_cycle(self) -> None:
        rate = one_cycle(0.5, 1000)
        for step, share in ((0, 0.05), (40, 0.525), (80, 1), (540, 0.5), (1000, 0)):
            assert float(rate(step)) == pytest.approx(0.5 * share, abs=1e-6)
        rates = [float(rate(step)) for step in range(1001)]
        assert rates.index(max(rates)) == 80
        assert rates[:81] == sorted(rates[:81])
        assert rates[80:] == sorted(rates[80:], reverse=True)


class TestStep:
    def test_the_first_step_is_adamw_s(self) -> None:
        """From zero moments, Adam goes the learning rate along each gradient's sign; decay spares the bias."""
        phase = make(ONE_STEP)
        kernel, bias = values(phase)
        truth = 0.9 * np.eye(CLASSES)[LABELS] + 0.1 / CLASSES
        error = (softmax(X @ kernel + bias) - truth) / COUNT
        epoch = train(phase)
        rate = 0.1 * 0.05
        expected = kernel * (1 - rate * 0.3) - rate * np.sign(X.T @ error)
        np.testing.assert_allclose(values(phase)[0], expected, atol=1e-5)
        np.testing.assert_allclose(values(phase)[1], bias - rate * np.sign(error.sum(axis=0)), atol=1e-5)
        logits = X @ kernel + bias
        assert epoch.loss == pytest.approx(-np.mean(np.sum(truth * np.log(softmax(logits)), axis=1)), rel=1e-5)
        assert epoch.top1 == pytest.approx(np.mean(logits.argmax(axis=1) == LABELS))

    @pytest.mark.parametrize("batch", [3, 7, COUNT, 4 * COUNT])
    def test_an_epoch_shows_each_example_once_at_most(self, batch: int) -> None:
        phase = make(PhaseSettings(3, 0.01, 0.0, batch))
        seen: list[tuple[int, list[int]]] = []

        def examples(places: Any, step: int) -> Any:
            seen.append((step, places.tolist()))
            return X[places]

        for _ in range(3):
            phase.train_epoch(examples, lambda: (1.0, 0.5), lambda done, total: None)
        size = min(batch, COUNT)
        steps = COUNT // size
        assert [step for step, _ in seen] == list(range(3 * steps))
        orders = []
        for number in range(3):
            parts = [places for step, places in seen if step // steps == number]
            assert [len(part) for part in parts] == [size] * steps
            orders.append([place for part in parts for place in part])
            assert len(set(orders[-1])) == steps * size
        assert orders[0] != orders[1] != orders[2]

    def test_it_learns(self) -> None:
        phase = make(PhaseSettings(40, 0.1, 0.0, 5))
        first = train(phase)
        while not phase.finished:
            last = train(phase)
        assert last.number == 40
        assert last.validation_loss < 0.8 * first.validation_loss

    def test_progress_counts_steps(self) -> None:
        phase, told = make(PhaseSettings(1, 0.1, 0.0, 6)), []
        phase.train_epoch(lambda places, step: X[places], lambda: (1.0, 0.5), lambda *now: told.append(now))
        assert told == [(1, 3), (2, 3), (3, 3)]

    @pytest.mark.parametrize("where", ["training", "validation"])
    def test_a_loss_that_is_no_number_ends_it(self, where: str) -> None:
        phase = make(ONE_STEP)
        x = X if where == "validation" else np.full_like(X, np.inf)
        result = (math.nan if where == "validation" else 1.0, 0.5)
        with pytest.raises(FloatingPointError, match=r"epoch 1 \(head\)"):
            phase.train_epoch(lambda places, step: x[places], lambda: result, lambda done, total: None)
        assert phase.best is None


class TestBest:
    @pytest.mark.parametrize(
        ("results", "best"),
        [
            ([(1.0, 0.5), (0.9, 0.7), (0.8, 0.6)], 2),
            ([(1.0, 0.5), (0.9, 0.5), (1.1, 0.5)], 2),
            ([(1.0, 0.5), (1.0, 0.5), (1.0, 0.5)], 1),
            ([(1.0, 0.5), (0.1, 0.4), (2.0, 0.6)], 3),
        ],
        ids=["accuracy", "then-loss", "the-first-of-equals", "accuracy-before-loss"],
    )
    def test_the_best_epoch_s_values_come_back(self, results: list[tuple[float, float]], best: int) -> None:
        phase, validate, after = make(PhaseSettings(3, 0.1, 0.0, 5)), scripted(*results), []
        while not phase.finished:
            train(phase, validate)
            after.append(values(phase))
        assert phase.best is not None
        assert (phase.best.number, phase.best.validation_loss, phase.best.validation_top1) == (best, *results[best - 1])
        phase.take_best()
        for now, then in zip(values(phase), after[best - 1], strict=True):
            np.testing.assert_array_equal(now, then)

    @pytest.mark.parametrize(("patience", "epochs"), [(1, 3), (2, 6), (3, 7), (5, 8)])
    def test_patience(self, patience: int, epochs: int) -> None:
        phase = make(PhaseSettings(8, 0.1, 0.0, 5, patience=patience))
        validate = scripted(*((1.0, top1 / 10) for top1 in (1, 2, 2, 3, 3, 3, 3, 3)))
        while not phase.finished:
            train(phase, validate)
        assert phase.epochs_done == epochs

    def test_what_it_began_with_stays_unless_an_epoch_is_better(self) -> None:
        begun = Epoch("before", 9, 0.1, 0.9, 0.2, 0.8, 3.0)
        phase = make(PhaseSettings(5, 0.1, 0.0, 5, patience=2), begun_with=begun)
        start = values(phase)
        validate = scripted((0.3, 0.8), (0.1, 0.7), (0.1, 0.9))
        while not phase.finished:
            train(phase, validate)
        assert phase.epochs_done == 2  # patience counts from the beginning
        assert phase.best is begun
        phase.take_best()
        for now, then in zip(values(phase), start, strict=True):
            np.testing.assert_array_equal(now, then)
        better = make(PhaseSettings(1, 0.1, 0.0, 5), begun_with=begun)
        train(better, scripted((0.3, 0.9)))
        assert better.best is not None
        assert (better.best.cycle, better.best.number) == ("head", 1)


class TestResume:
    @pytest.mark.sampled(2)
    @pytest.mark.parametrize("dropout", [0.0, 0.5])
    @pytest.mark.parametrize("stop", [1, 3])
    def test_it_ends_as_if_nothing_had_happened(self, tmp_path: Path, dropout: float, stop: int) -> None:
        settings = PhaseSettings(4, 0.1, 0.1, 6, seed=3)
        whole = make(settings, linear(dropout))
        epochs = [train(whole) for _ in range(4)]
        first = make(settings, linear(dropout))
        for _ in range(stop):
            train(first)
        first.save(tmp_path / "state.npz")
        second = make(settings, linear(dropout))
        second.resume(tmp_path / "state.npz")
        assert second.epochs_done == stop
        assert second.seconds == first.seconds
        assert second.best == first.best
        rest = [train(second) for _ in range(4 - stop)]
        assert second.finished
        for now, then in zip(rest, epochs[stop:], strict=True):
            assert (now.number, now.loss, now.top1) == (then.number, then.loss, then.top1)
            assert (now.validation_loss, now.validation_top1) == (then.validation_loss, then.validation_top1)
        for phase in (whole, second):
            phase.take_best()
        for now, then in zip(values(second), values(whole), strict=True):
            np.testing.assert_array_equal(now, then)

    def test_it_remembers_the_best_and_patience(self, tmp_path: Path) -> None:
        settings = PhaseSettings(9, 0.1, 0.0, 5, patience=3)
        phase, validate = make(settings), scripted((1.0, 0.9), (1.0, 0.5), (1.0, 0.5))
        train(phase, validate)
        best = values(phase)
        train(phase, validate)
        phase.save(tmp_path / "state.npz")
        resumed = make(settings)
        resumed.resume(tmp_path / "state.npz")
        train(resumed, scripted((1.0, 0.5)))
        assert not resumed.finished
        train(resumed, scripted((1.0, 0.5)))
        assert resumed.finished
        resumed.take_best()
        for now, then in zip(values(resumed), best, strict=True):
            np.testing.assert_array_equal(now, then)

    def test_it_remembers_what_it_began_with(self, tmp_path: Path) -> None:
        begun = Epoch("before", 9, 0.1, 0.9, 0.2, 0.8, 3.0)
        phase = make(ONE_STEP, begun_with=begun)
        start = values(phase)
        train(phase, scripted((1.0, 0.5)))
        phase.save(tmp_path / "state.npz")
        resumed = make(ONE_STEP, begun_with=begun)
        resumed.resume(tmp_path / "state.npz")
        assert resumed.best is begun
        resumed.take_best()
        for now, then in zip(values(resumed), start, strict=True):
            np.testing.assert_array_equal(now, then)


@pytest.mark.parametrize("batch", [1, 7, 128])
def test_measure(batch: int) -> None:
    model = linear()
    kernel, bias = (variable.numpy() for variable in model.variables)
    scores = softmax(X.astype(float) @ kernel + bias)
    loss, top1 = measure(model, lambda part: X[part], LABELS, batch)
    assert loss == pytest.approx(-np.mean(np.log(scores[np.arange(COUNT), LABELS])), rel=1e-5)
    assert top1 == np.mean(scores.argmax(axis=1) == LABELS)
    assert isinstance(loss, float)
    assert isinstance(top1, float)
