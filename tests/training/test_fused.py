"""The twin that trains faster: the same numbers as Keras's own layers, on the same variables."""

from __future__ import annotations

from functools import cache
from typing import Any

import numpy as np
import pytest

from edgeq.networks import Architecture, build_keras_model
from edgeq.networks.building import randomize
from edgeq.training.fused import with_fused_batchnorm, zero_init_residual

keras = pytest.importorskip("keras")

V2 = Architecture("mobilenet_v2", 32, 32, 0.35, 8, 5)
V3 = Architecture("mobilenet_v3_small", 33, 47, 0.35, 8, 5)
RNG = np.random.default_rng(0)


@cache
def network(architecture: Architecture) -> Any:
    """With random kernels, and statistics that are no identity."""
    model = build_keras_model(architecture, "linear")
    randomize(model, 0)
    rng = np.random.default_rng(1)
    for layer in model.layers:
        if isinstance(layer, keras.layers.BatchNormalization):
            layer.set_weights([rng.uniform(0.5, 1.5, value.shape) for value in layer.get_weights()])
    return model


def pictures(architecture: Architecture, count: int = 4) -> Any:
    size = (count, architecture.height, architecture.width, 3)
    values = RNG.uniform(0, 255, size) if "v3" in architecture.family else RNG.uniform(-1, 1, size)
    return values.astype(np.float32)


class TestTwin:
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("architecture", [V2, V3], ids=["v2", "v3"])
    def test_inference_is_the_network_s(self, architecture: Architecture) -> None:
        model = network(architecture)
        x = pictures(architecture)
        expected = model(x, training=False).numpy()
        np.testing.assert_allclose(with_fused_batchnorm(model, 1000)(x, training=False), expected, rtol=1e-3, atol=1e-4)
        assert np.ptp(expected) > 1e-3

    def test_it_shares_the_variables(self) -> None:
        model = network(V2)
        twin = with_fused_batchnorm(model, 1000)
        assert {id(v) for v in twin.variables} == {id(v) for v in model.variables}
        assert {id(v) for v in twin.trainable_variables} == {id(v) for v in model.trainable_variables}

    def test_inputs_of_another_size_see_the_network_of_that_size(self) -> None:
        larger = Architecture("mobilenet_v2", 64, 48, 0.35, 8, 5)
        other = build_keras_model(larger, "linear")
        other.set_weights(network(V2).get_weights())
        x = pictures(larger)
        np.testing.assert_allclose(
            with_fused_batchnorm(network(V2), 1000)(x, training=False), other(x, training=False), rtol=1e-3, atol=1e-4
        )

    def test_training_normalizes_by_the_batch_and_moves_the_averages(self) -> None:
        image = keras.Input((5, 6, 3))
        model = keras.Model(image, keras.layers.BatchNormalization(epsilon=1e-3)(image))
        norm = model.layers[-1]
        before = [np.array([1.5, 2, 3]), np.array([0.5, 0, -1]), np.array([7.0, 8, 9]), np.array([4.0, 5, 6])]
        norm.set_weights(before)
        gamma, beta, mean, variance = before
        x = RNG.normal(3, 2, (8, 5, 6, 3)).astype(np.float32)
        y = with_fused_batchnorm(model, 1000)(x, training=True)
        now_mean, now_variance = x.mean(axis=(0, 1, 2)), x.var(axis=(0, 1, 2))
        expected = gamma * (x - now_mean) / np.sqrt(now_variance + 1e-3) + beta
        np.testing.assert_allclose(y, expected, atol=1e-4)
        sampled = x.var(axis=(0, 1, 2), ddof=1)  # of a population, by a sample of it
        np.testing.assert_allclose(norm.moving_mean, 0.99 * mean + 0.01 * now_mean, rtol=1e-5)
        np.testing.assert_allclose(norm.moving_variance, 0.99 * variance + 0.01 * sampled, rtol=1e-5)
        np.testing.assert_array_equal(norm.gamma, gamma.astype(np.float32))

    @pytest.mark.parametrize("steps", [100, 300])
    def test_a_short_training_leaves_nothing_of_the_first_averages(self, steps: int) -> None:
        image = keras.Input((5, 6, 3))
        model = keras.Model(image, keras.layers.BatchNormalization()(image))
        twin = with_fused_batchnorm(model, steps)
        x = RNG.normal(1, 0.1, (8, 5, 6, 3)).astype(np.float32)  # far from the 0 and 1 that averages begin as
        for _ in range(steps):
            twin(x, training=True)
        norm = model.layers[-1]
        np.testing.assert_allclose(norm.moving_mean, x.mean(axis=(0, 1, 2)), rtol=1e-3)
        np.testing.assert_allclose(norm.moving_variance, x.var(axis=(0, 1, 2), ddof=1), rtol=1e-2)

    def test_gradients_are_keras_s_own(self) -> None:
        import tensorflow as tf

        image = keras.Input((6, 6, 3))
        x = keras.layers.Conv2D(4, 3, use_bias=False)(image)
        x = keras.layers.ReLU()(keras.layers.BatchNormalization()(x))
        model = keras.Model(image, keras.layers.GlobalAveragePooling2D()(x))
        batch = RNG.normal(size=(8, 6, 6, 3)).astype(np.float32)

        def gradients(of: Any) -> list[Any]:
            with tf.GradientTape() as tape:
                loss = tf.reduce_sum(of(batch, training=True)[:, 1] ** 2)
            return [g.numpy() for g in tape.gradient(loss, model.trainable_variables)]

        for ours, theirs in zip(gradients(with_fused_batchnorm(model, 1000)), gradients(model), strict=True):
            np.testing.assert_allclose(ours, theirs, atol=1e-4)
            assert np.abs(theirs).max() > 1e-3


class TestQuietBlocks:
    # By the papers' tables 10 and 6; but so narrow, V3's stages with 40 and 48 channels are of one width.
    @pytest.mark.sampled(1)
    @pytest.mark.parametrize(("architecture", "shortcuts"), [(V2, 10), (V3, 7)], ids=["v2", "v3"])
    def test_every_block_with_a_shortcut_begins_as_the_identity(
        self, architecture: Architecture, shortcuts: int
    ) -> None:
        model = build_keras_model(architecture, "linear")
        adds = [layer for layer in model.layers if isinstance(layer, keras.layers.Add)]
        assert len(adds) == shortcuts
        zero_init_residual(model)
        norms = [layer for layer in model.layers if isinstance(layer, keras.layers.BatchNormalization)]
        assert sum(not np.any(norm.gamma) for norm in norms) == shortcuts
        seen = keras.Model(model.input, [tensor for add in adds for tensor in (add.input[0], add.output)])
        values = seen(pictures(architecture, 1), training=True)
        for shortcut, result in zip(values[::2], values[1::2], strict=True):
            np.testing.assert_array_equal(shortcut, result)
