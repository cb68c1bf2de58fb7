"""Networks cut in two, and what the frozen half makes of the photos."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import InputError
from edgeq.networks import Architecture, build_keras_model
from edgeq.networks.building import randomize
from edgeq.preprocessing import Preprocessing
from edgeq.training.augmentation import Augmentation
from edgeq.training.transfer import (
    Views,
    compute_views,
    cut_at_pooling,
    cut_before_blocks,
    freeze_norms,
)

keras = pytest.importorskip("keras")

V2 = Architecture("mobilenet_v2", 32, 48, 0.35, 8, 4)
V2_HEAD = Architecture("mobilenet_v2", 33, 47, 0.35, 8, 4, head=6)
V3 = Architecture("mobilenet_v3_small", 32, 48, 0.35, 8, 4)
V3_HEAD = Architecture("mobilenet_v3_large_minimalistic", 33, 47, 0.35, 16, 4, head=6)
EACH = pytest.mark.parametrize(
    "architecture", [V2, V2_HEAD, V3, V3_HEAD], ids=["v2", "v2-head", "v3-small", "v3-large-head"]
)


@cache
def network(architecture: Architecture) -> Any:
    model = build_keras_model(architecture, "linear")
    randomize(model, 0)
    freeze_norms(model)
    return model


def pictures(architecture: Architecture) -> Any:
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (3, architecture.height, architecture.width, 3), np.uint8)
    return architecture.preprocessing.normalize(pixels)


def layers_of(variables: list[Any]) -> set[str]:
    return {variable.path.split("/")[0] for variable in variables}


class TestCuts:
    @pytest.mark.sampled(2)
    @EACH
    @pytest.mark.parametrize("blocks", [0, 1, 5, 10])
    def test_the_halves_make_the_whole(self, architecture: Architecture, blocks: int) -> None:
        model = network(architecture)
        pooled = cut_at_pooling(model)
        cut = cut_before_blocks(model, blocks) if blocks else pooled
        x = pictures(architecture)
        expected = model(x, training=False)
        seen = keras.Model(model.input, cut)(x, training=False)
        np.testing.assert_allclose(keras.Model(cut, model.output)(seen, training=False), expected, rtol=1e-4, atol=1e-5)
        if blocks:
            top = keras.Model(cut, pooled)(seen, training=False)
            np.testing.assert_allclose(keras.Model(pooled, model.output)(top), expected, rtol=1e-4, atol=1e-5)

    @pytest.mark.parametrize(
        ("architecture", "head"),
        [
            (V2, {"predictions"}),
            (V2_HEAD, {"head", "predictions"}),
            (V3, {"conv_2", "logits"}),
            (V3_HEAD, {"head", "predictions"}),
        ],
        ids=["v2", "v2-head", "v3-small", "v3-large-head"],
    )
    def test_what_follows_the_pooling_is_the_head(self, architecture: Architecture, head: set[str]) -> None:
        model = network(architecture)
        assert layers_of(keras.Model(cut_at_pooling(model), model.output).trainable_variables) == head

    @pytest.mark.parametrize(
        ("architecture", "first", "last"),
        [(V2, "block_15_", "block_16_"), (V3_HEAD, "expanded_conv_13_", "expanded_conv_14_")],
        ids=["v2", "v3"],
    )
    def test_the_top_blocks(self, architecture: Architecture, first: str, last: str) -> None:
        model = network(architecture)
        back = keras.Model(cut_before_blocks(model, 2), model.output)
        names = layers_of(back.variables)
        assert {name for name in names if name.startswith((first, last))} == {
            name for name in names if name.startswith(("block_", "expanded_conv_"))
        }
        for block in (first, last):
            assert {f"{block}expand", f"{block}depthwise", f"{block}project"} <= names

    @EACH
    def test_batch_normalization_does_not_learn(self, architecture: Architecture) -> None:
        model = network(architecture)
        back = keras.Model(cut_before_blocks(model, 5), model.output)
        norms = [v.path for v in back.variables if any(n in v.path for n in ("gamma", "beta", "moving"))]
        assert len(norms) >= 4 * 10
        assert not {variable.path for variable in back.trainable_variables} & set(norms)
        before = {variable.path: variable.numpy() for variable in back.variables}
        seen = keras.Model(model.input, cut_before_blocks(model, 5))(pictures(architecture), training=True)
        inferred = keras.Model(model.input, cut_before_blocks(model, 5))(pictures(architecture), training=False)
        np.testing.assert_array_equal(seen, inferred)
        back(seen, training=True)
        for variable in back.variables:
            if variable.path in norms:
                np.testing.assert_array_equal(variable, before[variable.path])

    @pytest.mark.parametrize(
        ("architecture", "count", "blocks"), [(V2, 17, 17), (V2, 99, 17), (V3, 11, 11), (V3_HEAD, 15, 15)]
    )
    def test_so_many_blocks_there_are_not(self, architecture: Architecture, count: int, blocks: int) -> None:
        model = network(architecture)
        cut_before_blocks(model, blocks - 1)
        with pytest.raises(InputError, match=f"--fine-tune {count}: at most {blocks - 1}, .* has {blocks} blocks"):
            cut_before_blocks(model, count)


class TestViews:
    size, photos, held_out = 8, 40, 5  # more photos than are run at a time
    preprocessing = Preprocessing(size, size, crop=1.0)

    @pytest.fixture
    def front(self) -> Any:
        """Gives the means of red, green and blue, a thousandfold and a hundred-thousandfold."""
        image = keras.Input((self.size, self.size, 3))
        x = keras.layers.GlobalAveragePooling2D()(image)
        return keras.Model(image, keras.layers.Concatenate()([1000 * x, 100_000 * x]))

    @pytest.fixture
    def compute(self, front: Any, tmp_path: Path) -> Callable[..., Views]:
        rng = np.random.default_rng(0)
        self.plain = rng.integers(0, 256, (self.photos, self.size, self.size, 3), np.uint8)
        training = rng.integers(0, 256, (self.photos, 9, 9, 3), np.uint8)
        self.validation = rng.integers(0, 256, (self.held_out, self.size, self.size, 3), np.uint8)

        def run(
            count: int = 3,
            seed: int = 0,
            progress: Any = lambda *_: None,
            model: Any = front,
            augmentation: Any = Augmentation(),  # noqa: B008 (it is frozen)
        ) -> Views:
            return compute_views(
                model,
                lambda places: self.plain[places],
                training,
                self.validation,
                self.preprocessing,
                augmentation,
                count,
                seed,
                tmp_path,
                progress,
            )

        return run

    def means(self, pixels: Any) -> Any:
        return (pixels / 127.5 - 1).mean(axis=(1, 2))

    def test_plain_and_validation_are_what_inference_sees(self, compute: Callable[..., Views]) -> None:
        views = compute(count=1)
        assert len(views.training) == 1
        for view, pixels in ((views.training[0], self.plain), (views.validation, self.validation)):
            assert view.dtype == np.float16
            assert view.shape == (len(pixels), 6)
            np.testing.assert_allclose(view[:, :3], 1000 * self.means(pixels), rtol=2e-3, atol=0.1)
            np.testing.assert_allclose(
                view[:, 3:], (100_000 * self.means(pixels)).clip(-65504, 65504), rtol=2e-3, atol=10
            )  # neither infinity nor NaN, which would spoil all

    def test_the_other_views_differ_by_seed(self, compute: Callable[..., Views], tmp_path: Path) -> None:
        views = compute(count=4)
        assert len(views.training) == 4
        for i, view in enumerate(views.training):
            assert np.isfinite(view).all()
            for other in views.training[:i]:
                assert np.abs(view[:, :3].astype(float) - other[:, :3]).mean() > 10
            # pictures of one batch, and those of the next, are changed independently
            assert len(np.unique(view[:, 0])) > self.photos / 2
        copies = [np.array(view) for view in views.training]
        for path in tmp_path.glob("view-*"):
            path.unlink()
        for again, first in zip(compute(count=4).training, copies, strict=True):
            np.testing.assert_array_equal(again, first)
        for path in tmp_path.glob("view-*"):
            path.unlink()
        others = compute(count=4, seed=2**31 - 1).training
        np.testing.assert_array_equal(others[0], copies[0])
        assert not np.array_equal(others[1], copies[1])

    def test_every_batch_of_every_view_has_a_seed_of_its_own(self, compute: Callable[..., Views]) -> None:
        seeds = []

        class Recorder:
            def apply(self, images: Any, preprocessing: Preprocessing, seed: Any) -> Any:
                seeds.append(tuple(seed.numpy().tolist()))
                return np.zeros((len(images), 8, 8, 3), np.float32)

        assert len(compute(count=200, seed=9, augmentation=Recorder()).training) == 200
        assert len(seeds) == 199 * 2
        assert len(set(seeds)) == len(seeds)
        assert {seed for seed, _ in seeds} == {9}

    def test_what_an_interruption_left_is_used(self, compute: Callable[..., Views], front: Any, tmp_path: Path) -> None:
        first = [np.array(view) for view in compute().training]
        broken = keras.Model(front.input, front.output * 0)
        (tmp_path / "view-1.npy").rename(tmp_path / "view-1.part")  # as if it had not been finished
        told: list[tuple[str, int, int]] = []
        second = compute(progress=lambda *now: told.append(now), model=broken).training
        np.testing.assert_array_equal(second[0], first[0])
        assert not second[1].any()
        np.testing.assert_array_equal(second[2], first[2])
        total = 3 * self.photos + self.held_out
        assert told == [("Running the frozen layers", done, total) for done in (self.photos + 32, 2 * self.photos)]
        assert not list(tmp_path.glob("*.part"))

    def test_progress_ends_at_its_total(self, compute: Callable[..., Views]) -> None:
        told: list[tuple[str, int, int]] = []
        compute(progress=lambda *now: told.append(now))
        done = [now[1] for now in told]
        assert done == sorted(done)
        assert told[-1][1] == told[-1][2] == 3 * self.photos + self.held_out

    def test_a_step_draws_one_view_of_each_photo(self) -> None:
        values = np.arange(5 * 100, dtype=np.float16).reshape(5, 100, 1)  # 100 times the view, plus the photo
        views = Views(tuple(values), values[0])
        draw = views.examples(seed=4)
        places = np.random.default_rng(0).permutation(100)
        drawn = draw(places, 0)
        assert drawn.dtype == np.float32
        assert (drawn[:, 0] % 100 == places).all()
        assert set(drawn[:, 0] // 100) == {0, 1, 2, 3, 4}
        np.testing.assert_array_equal(draw(places, 0), drawn)
        for other in (draw(places, 1), views.examples(seed=5)(places, 0)):
            assert not np.array_equal(other, drawn)

    def test_through_a_further_model(self, compute: Callable[..., Views], front: Any) -> None:
        views = compute()
        image = keras.Input((6,))
        halved = views.through(keras.Model(image, 0.5 * image))
        assert len(halved.training) == 3
        for ours, theirs in zip(halved.training, views.training, strict=True):
            assert ours.dtype == np.float16
            np.testing.assert_array_equal(ours, 0.5 * theirs)
        np.testing.assert_array_equal(halved.validation, 0.5 * views.validation)
        np.testing.assert_array_equal(halved.validation_inputs(slice(1, 3)), 0.5 * views.validation[1:3])
