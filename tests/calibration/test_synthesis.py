"""Images synthesized from what a network's BatchNormalization layers keep."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from conftest import colour_picture
from PIL import Image

from edgeq.calibration.statistics import WatchedNetwork
from edgeq.calibration.synthesis import synthesize
from edgeq.errors import InputError, ModelError
from edgeq.preprocessing import NORMALIZATIONS, Preprocessing

pytest.importorskip("tensorflow")

Pixels = npt.NDArray[np.uint8]
SIDE = 16
PREPROCESSING = Preprocessing(SIDE, SIDE, crop=1.0)


def dull_pictures(count: int = 24) -> Pixels:
    """Pictures of little contrast in three colours: (count, SIDE, SIDE, 3) uint8, nothing like noise or photos."""
    names = ["blue", "green", "red"]
    pictures = np.stack([np.asarray(colour_picture(names[i % 3], i, SIDE)) for i in range(count)])
    return 90 + pictures // 6


def build(head: str = "softmax", nested: bool = False, classes: int = 3) -> Any:
    """A small network of SIDE x SIDE pixels with two BatchNormalization layers; always the same weights."""
    import keras

    keras.utils.set_random_seed(3)
    layers = keras.layers
    body = [
        layers.Conv2D(8, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0),
        layers.ReLU(),
        layers.Conv2D(12, 3, strides=2, padding="same", use_bias=False),
        layers.BatchNormalization(momentum=0),
        layers.ReLU(),
        layers.GlobalAveragePooling2D(),
    ]
    image = keras.Input((SIDE, SIDE, 3))
    if nested:
        body = [keras.Sequential([keras.Sequential(body[:3]), *body[3:]])]
    x = image
    for layer in [*body, layers.Dense(classes, activation=head)]:
        x = layer(x)
    return keras.Model(image, x, name="little")


def trained(model: Any, pixels: Pixels, preprocessing: Preprocessing = PREPROCESSING) -> Any:
    """Let its BatchNormalization keep the statistics of these pictures: with momentum 0, one run does."""
    model(preprocessing.normalize(pixels), training=True)
    return model


@pytest.fixture(scope="module")
def network() -> Any:
    """A network that has seen `dull_pictures`."""
    return trained(build(), dull_pictures())


def distance_by_hand(model: Any, preprocessing: Preprocessing, pixels: Pixels) -> float:
    """`WatchedNetwork.distance` again, by a model that gives out what goes into each layer."""
    import keras

    known = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
    inside = keras.Model(model.input, [layer.input for layer in known])
    squares = []
    for layer, values in zip(known, inside(preprocessing.normalize(pixels), training=False), strict=True):
        flat = np.asarray(values, np.float64).reshape(-1, values.shape[-1])
        scale = np.sqrt(np.asarray(layer.moving_variance) + layer.epsilon)
        off = (flat.mean(0) - np.asarray(layer.moving_mean)) / scale
        ratio = np.sqrt(flat.var(0) + layer.epsilon) / scale
        squares.append(np.mean(off**2 + (ratio - 1) ** 2))
    return float(np.sqrt(np.mean(squares)))


class TestDistance:
    def test_none_to_the_pictures_that_it_was_trained_on(self, network: Any) -> None:
        assert WatchedNetwork(network, PREPROCESSING).distance(dull_pictures()) < 1e-3

    @pytest.mark.parametrize("count", [1, 25, 26, 60])
    def test_is_that_of_all_images_together(self, count: int, network: Any) -> None:
        """However they fall into batches."""
        pixels = np.random.default_rng(0).integers(0, 256, (count, SIDE, SIDE, 3), np.uint8)
        pixels[: count // 3] //= 4
        expected = distance_by_hand(network, PREPROCESSING, pixels)
        assert expected > 1
        assert WatchedNetwork(network, PREPROCESSING).distance(pixels) == pytest.approx(expected, rel=1e-4)

    @pytest.mark.parametrize("normalization", [*NORMALIZATIONS.values()], ids=[*NORMALIZATIONS])
    def test_knows_the_normalization(self, normalization: tuple[tuple[float, ...], tuple[float, ...]]) -> None:
        mean, std = normalization
        preprocessing = Preprocessing(SIDE, SIDE, mean, std, crop=1.0)
        model = trained(build(), dull_pictures(), preprocessing)
        assert WatchedNetwork(model, preprocessing).distance(dull_pictures()) < 1e-3

    def test_takes_rgb_also_where_the_network_takes_bgr(self) -> None:
        preprocessing = Preprocessing(SIDE, SIDE, (10.0, 20.0, 30.0), (50.0, 60.0, 70.0), channels="BGR", crop=1.0)
        rgb = (dull_pictures() * [1, 0.7, 0.4]).astype(np.uint8)
        model = trained(build(), rgb[..., ::-1], preprocessing)
        assert WatchedNetwork(model, preprocessing).distance(rgb) < 1e-3
        assert WatchedNetwork(model, preprocessing).distance(rgb[..., ::-1]) > 0.1

    def test_is_of_what_the_network_sees_after_cropping(self, network: Any) -> None:
        cropping = Preprocessing(SIDE, SIDE, crop=0.7)
        pixels = np.random.default_rng(0).integers(0, 256, (20, SIDE, SIDE, 3), np.uint8)
        seen = np.stack([cropping.pixels(Image.fromarray(picture)) for picture in pixels])
        expected = distance_by_hand(network, PREPROCESSING, seen)
        assert WatchedNetwork(network, cropping).distance(pixels) == pytest.approx(expected, rel=0.01)
        assert distance_by_hand(network, PREPROCESSING, pixels) > 1.1 * expected

    def test_layers_that_know_nothing_do_not_count(self) -> None:
        """One of two is folded, as some converters leave them."""
        import keras

        model = trained(build(), dull_pictures())
        first = next(layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization))
        first.moving_mean.assign(np.zeros(8))
        first.moving_variance.assign(np.full(8, 1 - first.epsilon))
        watched = WatchedNetwork(model, PREPROCESSING, "little")
        ((mean, _),) = watched.moments(np.zeros((1, SIDE, SIDE, 3), np.float32))
        assert mean.shape == (12,)

    @pytest.mark.parametrize("axis", [1, -1, 3])
    def test_normalization_along_another_axis(self, axis: int) -> None:
        import keras

        image = keras.Input((SIDE, SIDE, 3))
        normalized = keras.layers.BatchNormalization(axis=axis, momentum=0)(image)
        scores = keras.layers.Dense(2, "softmax")(keras.layers.GlobalAveragePooling2D()(normalized))
        model = trained(keras.Model(image, scores), dull_pictures())
        assert WatchedNetwork(model, PREPROCESSING).distance(dull_pictures()) < 1e-3


class TestScores:
    @pytest.mark.parametrize(
        ("probabilities", "logits", "classes"),
        [
            pytest.param("softmax", "linear", 3, id="softmax"),
            pytest.param("sigmoid", "linear", 1, id="one-sigmoid"),
        ],
    )
    def test_probabilities_and_logits_mean_the_same(self, probabilities: str, logits: str, classes: int) -> None:
        import tensorflow as tf

        pixels = tf.constant(dull_pictures(), tf.float32) / 255
        results = []
        for head in (probabilities, logits):
            model = trained(build(head, classes=classes), dull_pictures())
            watched = WatchedNetwork(model, PREPROCESSING, "little")
            assert watched.classes == max(2, classes)
            results.append(watched.look(pixels)[1].numpy())
        np.testing.assert_allclose(results[0], results[1], rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(np.exp(results[0]).sum(1), 1, rtol=1e-4)


class TestSynthesis:
    def test_the_statistics_become_those_of_training(self, network: Any) -> None:
        noise = synthesize(WatchedNetwork(network, PREPROCESSING), count=30, steps=1)
        made = synthesize(WatchedNetwork(network, PREPROCESSING), count=30, steps=60)
        assert (made.shape, made.dtype) == ((30, SIDE, SIDE, 3), np.uint8)
        before, after = (distance_by_hand(network, PREPROCESSING, pixels) for pixels in (noise, made))
        assert after < before / 5

    def test_the_scores_reach_those_of_pictures(self) -> None:
        """They stand behind the last statistics, and do not follow from these."""
        model = trained(build("linear"), dull_pictures())
        images = synthesize(WatchedNetwork(model, PREPROCESSING), count=30)
        made = model(PREPROCESSING.normalize(images), training=False).numpy()
        assert set(made.argmax(1)) == {0, 1, 2}
        pictures = model(PREPROCESSING.normalize(dull_pictures()), training=False).numpy()
        assert np.ptp(made) > 0.8 * np.ptp(pictures)

    def test_the_same_seed_gives_the_same_images(self, network: Any) -> None:
        once, again, other = (synthesize(WatchedNetwork(network, PREPROCESSING), 12, seed, 5) for seed in (7, 7, 8))
        np.testing.assert_array_equal(once, again)
        assert np.abs(once.astype(int) - other).mean() > 10

    def test_batch_normalization_in_nested_models_is_found(self, network: Any) -> None:
        nested = build(nested=True)
        nested.set_weights(network.get_weights())
        flat, deep = (synthesize(WatchedNetwork(model, PREPROCESSING), 10, steps=3) for model in (network, nested))
        np.testing.assert_array_equal(flat, deep)

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(
        ("preprocessing", "shape"),
        [
            pytest.param(Preprocessing(9, 14, channels="L", crop=1.0), (10, 9, 14, 1), id="grey-and-rectangular"),
            pytest.param(Preprocessing(11, 8, channels="BGR", crop=1.0), (10, 11, 8, 3), id="bgr"),
        ],
    )
    def test_of_any_shape(self, preprocessing: Preprocessing, shape: tuple[int, ...]) -> None:
        import keras

        image = keras.Input((None, None, shape[-1]))
        x = keras.layers.BatchNormalization(momentum=0)(keras.layers.Conv2D(4, 3)(image))
        model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(x)))
        rng = np.random.default_rng(0)
        trained(model, rng.integers(30, 60, shape, np.uint8), preprocessing)
        watched = WatchedNetwork(model, preprocessing)
        made = synthesize(watched, 10, steps=40)
        assert (made.shape, made.dtype) == (shape, np.uint8)
        noise = rng.integers(0, 256, shape, np.uint8)
        assert watched.distance(made) < watched.distance(noise) / 5

    def test_counts_as_it_goes(self, network: Any) -> None:
        calls: list[tuple[str, int, int]] = []
        made = synthesize(
            WatchedNetwork(network, PREPROCESSING), 26, steps=3, progress=lambda *call: calls.append(call)
        )
        assert len(made) == 26
        assert calls == [("Synthesizing images", done, 6) for done in range(7)]  # two batches

    def test_leaves_the_network_as_it_was(self, network: Any) -> None:
        import keras

        weights, call = network.get_weights(), keras.layers.BatchNormalization.call
        synthesize(WatchedNetwork(network, PREPROCESSING), 10, steps=2)
        for before, after in zip(weights, network.get_weights(), strict=True):
            np.testing.assert_array_equal(before, after)
        assert keras.layers.BatchNormalization.call is call


class TestErrors:
    def test_no_batch_normalization(self) -> None:
        import keras

        image = keras.Input((SIDE, SIDE, 3))
        model = keras.Model(image, keras.layers.Dense(2)(keras.layers.GlobalAveragePooling2D()(image)), name="plain")
        with pytest.raises(InputError, match="plain: has no BatchNormalization, so it has no statistics") as caught:
            synthesize(WatchedNetwork(model, PREPROCESSING))
        assert "calibrate on photos" in str(caught.value)
        assert "the set that comes with edgeq" in str(caught.value)

    @pytest.mark.parametrize("variance", [1.0, 1 - 1e-3, float(np.float16(0.999))])
    def test_statistics_that_carry_no_information(self, variance: float) -> None:
        import keras

        model = build()
        for layer in model.layers:
            if isinstance(layer, keras.layers.BatchNormalization):
                layer.moving_variance.assign(np.full(layer.moving_variance.shape, variance))
        with pytest.raises(InputError, match=r"mine\.keras: its BatchNormalization was never trained or is folded"):
            WatchedNetwork(model, PREPROCESSING, "mine.keras")

    def test_images_that_it_cannot_take(self, network: Any) -> None:
        with pytest.raises(ModelError, match="little: cannot run on images of 16x16 L"):
            WatchedNetwork(network, Preprocessing(SIDE, SIDE, channels="L"))

    @pytest.mark.parametrize(("count", "steps"), [(0, 1), (1, 0)])
    def test_nothing_to_do(self, count: int, steps: int, network: Any) -> None:
        with pytest.raises(InputError, match=f"{count} images, {steps} steps"):
            synthesize(WatchedNetwork(network, PREPROCESSING), count, steps=steps)
