"""A network's twin for training all of it on a CPU: the same variables, batch normalization in one operator."""

from __future__ import annotations

from typing import Any

__all__ = ["quieten_blocks", "training_twin"]

_SHORTEST_MEMORY, _LONGEST_MEMORY = 10, 100  # steps
_MEMORIES = 10  # of that length go into a training, so that nothing of the first values is left at its end


def training_twin(network: Any, steps: int) -> Any:
    """The same variables behind a model that normalises a batch in one operator, and takes inputs of any size.

    Keras 3 spells batch statistics out in a dozen element-wise operators, which on a CPU take longer than the
    convolutions; this makes a training step almost twice as fast.

    Args:
        network: a functional `keras.Model` on (N, height, width, C).
        steps: how many the training will take. The moving averages remember a tenth of them: Keras's thousand
            would leave a short training with the 0 and 1 that they begin as.

    Returns:
        A model that shares the network's variables and, in training, updates its moving averages. Sizes other
        than the network's should be multiples of its output stride: then one padding serves them all.
    """
    import keras
    import tensorflow as tf

    memory = min(max(steps / _MEMORIES, _SHORTEST_MEMORY), _LONGEST_MEMORY)

    class FusedBatchNormalization(keras.layers.Layer):  # type: ignore[misc]
        """A `BatchNormalization` layer's arithmetic, on that layer's variables."""

        def __init__(self, plain: Any) -> None:
            super().__init__(name=plain.name)
            self.plain = plain

        def call(self, x: Any, training: bool = False, mask: Any = None) -> Any:
            norm = self.plain
            mean, variance = ([], []) if training else (norm.moving_mean, norm.moving_variance)
            result = tf.raw_ops.FusedBatchNormV3(
                x=x,
                scale=norm.gamma,
                offset=norm.beta,
                mean=mean,
                variance=variance,
                epsilon=norm.epsilon,
                is_training=bool(training),
            )
            if training:
                for average, now in ((norm.moving_mean, result[1]), (norm.moving_variance, result[2])):
                    average.assign_sub((average - now) / memory)
            return result.y

        def compute_output_shape(self, input_shape: Any) -> Any:
            return input_shape

    def reuse(layer: Any) -> Any:
        return FusedBatchNormalization(layer) if isinstance(layer, keras.layers.BatchNormalization) else layer

    any_size = keras.Input((None, None, network.input_shape[-1]))
    return keras.models.clone_model(network, any_size, clone_function=reuse)


def quieten_blocks(network: Any) -> None:
    """Let every block with a shortcut begin as the identity, by a zero scale in its last layer (arXiv 1706.02677).

    So deep and narrow a network is otherwise chaotic at the start: noise of 1e-6 in the images changed its first
    gradients by 5 %, and in a trial nine epochs brought less than six do with it.
    """
    import keras

    for layer in network.layers:
        if isinstance(layer, keras.layers.Add):
            last = layer.input[-1]._keras_history.operation  # of the branch; the shortcut comes first
            if isinstance(last, keras.layers.BatchNormalization):
                last.gamma.assign(0 * last.gamma)
