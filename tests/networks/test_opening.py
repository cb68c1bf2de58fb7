"""Opening Keras models and SavedModels of a user's, and refusing what is no image classifier."""

from __future__ import annotations

import hashlib
import json
import warnings
import zipfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from edgeq.errors import InputError, ModelError
from edgeq.networks import Network, open_network
from edgeq.networks.saving import save_network
from edgeq.preprocessing import Preprocessing
from edgeq.tflite.metadata import ModelMetadata

h5py = pytest.importorskip("h5py")
keras = pytest.importorskip("keras")
layers = keras.layers


@pytest.fixture(autouse=True)
def _no_warnings_about_h5() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        yield


def classifier(*front: Any, shape: tuple[int | None, ...] = (16, 12, 3), classes: int = 5) -> Any:
    """A small network with a depthwise convolution, `front` standing before it."""
    keras.utils.set_random_seed(0)
    return keras.Sequential(
        [
            keras.Input(shape),
            *front,
            layers.DepthwiseConv2D(3, padding="same"),
            layers.Conv2D(4, 1, activation="relu"),
            layers.GlobalAveragePooling2D(),
            layers.Dense(classes, activation="softmax"),
        ]
    )


def images(network: Network, count: int = 3) -> np.ndarray:
    """Random inputs for a network: (count, height, width, channels) float32."""
    rng = np.random.default_rng(0)
    return rng.normal(0, 1, (count, network.height, network.width, network.channels)).astype(np.float32)


def outputs(network: Network, inputs: np.ndarray) -> np.ndarray:
    return np.concatenate([np.asarray(network.function(image[np.newaxis])) for image in inputs])


def save_as_keras_2(model: Any, path: Path) -> None:
    """Write an .h5 with the key that Keras 2 wrote and Keras 3 refuses."""
    model.save(path)
    with h5py.File(path, "r+") as file:
        config = json.loads(file.attrs["model_config"])
        for layer in config["config"]["layers"]:
            if layer["class_name"] == "DepthwiseConv2D":
                layer["config"]["groups"] = 1
        file.attrs["model_config"] = json.dumps(config)


def export(model: Any, path: Path) -> None:
    model.export(path, verbose=False)


FORMS = {
    "keras": (".keras", lambda model, path: model.save(path)),
    "h5-of-keras-3": (".h5", lambda model, path: model.save(path)),
    "hdf5-of-keras-3": (".hdf5", lambda model, path: model.save(path)),
    "h5-of-keras-2": (".h5", save_as_keras_2),
    "saved-model": ("", export),
}


class TestEveryForm:
    @pytest.mark.parametrize("form", FORMS)
    def test_opens_and_computes_what_keras_does(self, form: str, tmp_path: Path) -> None:
        suffix, save = FORMS[form]
        path = tmp_path / f"flowers{suffix}"
        model = classifier()
        save(model, path)
        network = open_network(path)
        assert (network.name, network.height, network.width) == ("flowers", 16, 12)
        assert (network.channels, network.classes, network.preprocessing) == (3, 5, None)
        assert (network.labels, network.held_out, network.remarks) == ((), frozenset(), ())
        inputs = images(network)
        expected = model.predict(inputs, verbose=0)
        assert np.ptp(expected, axis=0).max() > 1e-3  # the network does tell the inputs apart
        np.testing.assert_allclose(outputs(network, inputs), expected, atol=1e-6)

    def test_the_parent_is_named_by_its_digest(self, tmp_path: Path) -> None:
        path = tmp_path / "flowers.keras"
        classifier().save(path)
        sha256 = hashlib.sha256(path.read_bytes()).hexdigest()
        assert open_network(path).parent == {"file": "flowers.keras", "sha256": sha256}

    def test_the_digest_of_a_saved_model_sees_its_weights(self, tmp_path: Path) -> None:
        model = classifier()
        export(model, tmp_path / "before")
        model.layers[-1].set_weights([w + 1 for w in model.layers[-1].get_weights()])
        export(model, tmp_path / "after")
        digests = {open_network(tmp_path / name).parent["sha256"] for name in ("before", "after")}
        assert len(digests) == 2

    def test_the_keras_2_file_is_one_that_keras_3_refuses(self, tmp_path: Path) -> None:
        save_as_keras_2(classifier(), tmp_path / "old.h5")
        with pytest.raises(TypeError, match="groups"):
            keras.models.load_model(tmp_path / "old.h5", compile=False)

    def test_one_grey_channel(self, tmp_path: Path) -> None:
        classifier(shape=(16, 12, 1)).save(tmp_path / "grey.keras")
        assert open_network(tmp_path / "grey.keras").channels == 1

    @pytest.mark.sampled(1)
    @pytest.mark.parametrize("name", ["net_1.0", "net_v2.3_final"])
    def test_a_folder_s_name_keeps_what_follows_a_dot(self, name: str, tmp_path: Path) -> None:
        export(classifier(), tmp_path / name)
        assert open_network(tmp_path / name).name == name

    def test_the_current_folder_has_a_name_too(self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        export(classifier(), tmp_path / "flowers")
        monkeypatch.chdir(tmp_path / "flowers")
        assert open_network(".").name == "flowers"


def test_published_keras_2_file(shared: Path) -> None:
    network = open_network(shared / "models" / "mlcommons_tiny" / "vww_96.h5")
    assert (network.height, network.width, network.channels, network.classes) == (96, 96, 3, 2)
    # MLPerf Tiny's own float .tflite of the same weights is the independent source.
    interpreter = pytest.importorskip("ai_edge_litert.interpreter").Interpreter(
        str(shared / "models" / "mlcommons_tiny" / "vww_96_float.tflite")
    )
    interpreter.allocate_tensors()
    image = np.random.default_rng(0).uniform(0, 1, (1, 96, 96, 3)).astype(np.float32)
    interpreter.set_tensor(interpreter.get_input_details()[0]["index"], image)
    interpreter.invoke()
    expected = interpreter.get_tensor(interpreter.get_output_details()[0]["index"])
    np.testing.assert_allclose(np.asarray(network.function(image)), expected, atol=1e-5)


class TestSize:
    @pytest.mark.parametrize("form", ["keras", "saved-model"])
    def test_an_open_size_has_to_be_given(self, form: str, tmp_path: Path) -> None:
        suffix, save = FORMS[form]
        path = tmp_path / f"any{suffix}"
        save(classifier(shape=(None, None, 3)), path)
        with pytest.raises(InputError, match="leaves its input size open; give --res"):
            open_network(path)
        network = open_network(path, size=(20, 30))
        assert (network.height, network.width) == (20, 30)
        assert outputs(network, images(network, 1)).shape == (1, 5)

    @pytest.mark.parametrize("size", [(12, 16), (16, 16), (224, 224)], ids=lambda s: f"{s[0]}x{s[1]}")
    def test_another_size_than_the_network_s_is_refused(self, size: tuple[int, int], tmp_path: Path) -> None:
        classifier().save(tmp_path / "fixed.keras")
        with pytest.raises(InputError, match=f"is made for 12x16 pixels, not {size[1]}x{size[0]}"):
            open_network(tmp_path / "fixed.keras", size=size)

    def test_its_own_size_is_fine(self, tmp_path: Path) -> None:
        classifier().save(tmp_path / "fixed.keras")
        assert open_network(tmp_path / "fixed.keras", size=(16, 12)).height == 16


class TestRescaling:
    @pytest.mark.parametrize(
        ("front", "rescales"),
        [
            pytest.param(list, False, id="nothing"),
            pytest.param(lambda: [layers.Rescaling(1 / 127.5, -1)], True, id="rescaling"),
            pytest.param(lambda: [layers.Normalization(mean=[1, 2, 3], variance=[4, 5, 6])], True, id="normalization"),
            pytest.param(lambda: [layers.Rescaling(2.0, -1)], False, id="rescaling-of-0-to-1"),
            pytest.param(
                lambda: [layers.Normalization(mean=[0.4, 0.5, 0.5], variance=[0.1, 0.1, 0.1])],
                False,
                id="normalization-of-0-to-1",
            ),
            pytest.param(lambda: [layers.RandomFlip(), layers.Rescaling(1 / 255)], True, id="after-augmentation"),
            pytest.param(
                lambda: [keras.Sequential([keras.Input((16, 12, 3)), layers.Rescaling(1 / 255)])], True, id="nested"
            ),
            pytest.param(lambda: [layers.Conv2D(3, 1), layers.Rescaling(2.0)], False, id="after-a-convolution"),
            pytest.param(lambda: [layers.ReLU(6.0)], False, id="another-layer"),
        ],
    )
    def test_layers_that_normalize_are_seen(
        self, front: Callable[[], list[Any]], rescales: bool, tmp_path: Path
    ) -> None:
        classifier(*front()).save(tmp_path / "net.keras")
        preprocessing = open_network(tmp_path / "net.keras").preprocessing
        assert preprocessing == (Preprocessing(16, 12, (0.0,), (1.0,), crop=1.0) if rescales else None)

    def test_of_one_grey_channel(self, tmp_path: Path) -> None:
        classifier(layers.Rescaling(1 / 255), shape=(200, 160, 1)).save(tmp_path / "grey.keras")
        preprocessing = open_network(tmp_path / "grey.keras").preprocessing
        assert preprocessing == Preprocessing(200, 160, (0.0,), (1.0,), "L", crop=0.875)

    def test_of_a_size_that_is_given(self, tmp_path: Path) -> None:
        classifier(layers.Rescaling(1 / 255), shape=(None, None, 3)).save(tmp_path / "any.keras")
        preprocessing = open_network(tmp_path / "any.keras", size=(20, 30)).preprocessing
        assert preprocessing == Preprocessing(20, 30, (0.0,), (1.0,), crop=1.0)

    def test_mobilenet_v3_as_keras_has_it(self, tmp_path: Path) -> None:
        keras.applications.MobileNetV3Small((32, 32, 3), weights=None, classes=2).save(tmp_path / "v3.keras")
        preprocessing = open_network(tmp_path / "v3.keras").preprocessing
        assert preprocessing is not None
        assert preprocessing.real_range == (0, 255)


class TestWhatTheFileSaysOfItself:
    """How edgeq writes this is in test_saving."""

    def test_goes_before_what_is_to_be_seen(self, tmp_path: Path) -> None:
        said = Preprocessing(16, 12, (1.0, 2.0, 3.0), (4.0, 5.0, 6.0), "BGR", crop=0.5)
        save_network(classifier(layers.Rescaling(1 / 255)), tmp_path / "net.keras", ModelMetadata(preprocessing=said))
        assert open_network(tmp_path / "net.keras").preprocessing == said

    def test_does_not_include_texts_of_other_makers(self, tmp_path: Path) -> None:
        """Keras keeps the vocabularies of layers in its zip, which are no labels."""
        path = tmp_path / "net.keras"
        classifier().save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("assets/layers/string_lookup/vocabulary.txt", "some\nwords\n")
        assert open_network(path).labels == ()

    def test_that_is_damaged_is_said(self, tmp_path: Path) -> None:
        path = tmp_path / "net.keras"
        classifier().save(path)
        with zipfile.ZipFile(path, "a") as archive:
            archive.writestr("edgeq.json", "{")
        with pytest.raises(ModelError, match=r"net\.keras: its metadata is damaged") as caught:
            open_network(path)
        assert "\n" not in str(caught.value)


def two_inputs() -> Any:
    first, second = keras.Input((8, 8, 3)), keras.Input((8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(layers.Add()([first, second]))
    return keras.Model([first, second], layers.Dense(2)(pooled))


def two_outputs() -> Any:
    image = keras.Input((8, 8, 3))
    pooled = layers.GlobalAveragePooling2D()(image)
    return keras.Model(image, [layers.Dense(2)(pooled), layers.Dense(2)(pooled)])


def of_shape(*shape: int) -> Any:
    return keras.Sequential([keras.Input(shape), layers.Flatten(), layers.Dense(2)])


def segmentation() -> Any:
    return keras.Sequential([keras.Input((8, 8, 3)), layers.Conv2D(4, 1)])


class TestNoClassifier:
    @pytest.mark.parametrize("form", ["keras", "saved-model"])
    @pytest.mark.parametrize(
        ("build", "message"),
        [
            pytest.param(
                two_inputs,
                "has 2 inputs and 1 outputs; an image classifier has one each; convert other models with --task",
                id="two-inputs",
            ),
            pytest.param(
                two_outputs,
                "has 1 inputs and 2 outputs; an image classifier has one each; convert other models with --task",
                id="two-outputs",
            ),
            pytest.param(lambda: of_shape(8, 8, 4), "an image classifier maps", id="four-channels"),
            pytest.param(lambda: of_shape(3, 8, 8), "an image classifier maps", id="channels-first"),
            pytest.param(lambda: of_shape(64), "an image classifier maps", id="vector"),
            pytest.param(segmentation, "an image classifier maps", id="a-class-per-pixel"),
        ],
    )
    def test_is_refused(self, form: str, build: Callable[[], Any], message: str, tmp_path: Path) -> None:
        suffix, save = FORMS[form]
        path = tmp_path / f"net{suffix}"
        save(build(), path)
        with pytest.raises(ModelError, match=message) as caught:
            open_network(path)
        assert str(caught.value).startswith(f"{path}: ")

    @pytest.mark.parametrize("signature", ["unknown-input-rank", "unknown-output-rank", "uint8"])
    def test_saved_models_of_other_makers(self, signature: str, tmp_path: Path) -> None:
        import tensorflow as tf

        def average(image: Any) -> Any:
            if signature == "unknown-output-rank":
                return tf.numpy_function(lambda x: x.mean((1, 2)), [image], tf.float32)
            return tf.reduce_mean(tf.cast(image, tf.float32), axis=[1, 2])

        spec = {"unknown-input-rank": tf.TensorSpec(None), "uint8": tf.TensorSpec((1, 8, 8, 3), tf.uint8)}
        module = tf.Module()
        module.average = tf.function(average, input_signature=[spec.get(signature, tf.TensorSpec((1, 8, 8, 3)))])
        tf.saved_model.save(module, str(tmp_path / "net"), signatures=module.average)
        with pytest.raises(ModelError, match="net: "):
            open_network(tmp_path / "net")

    def test_a_saved_model_without_a_signature(self, tmp_path: Path) -> None:
        import tensorflow as tf

        tf.saved_model.save(tf.Module(), str(tmp_path / "net"))
        with pytest.raises(ModelError, match=r"TensorFlow cannot load this SavedModel .*serving_default"):
            open_network(tmp_path / "net")


class TestWrongFiles:
    def test_nothing_there(self, tmp_path: Path) -> None:
        with pytest.raises(InputError, match=r"nothing\.keras: no such model"):
            open_network(tmp_path / "nothing.keras")

    def test_a_converted_model(self, tmp_path: Path) -> None:
        (tmp_path / "model.tflite").write_bytes(b"whatever")
        with pytest.raises(ModelError, match="is a TFLite model already; give the Keras model"):
            open_network(tmp_path / "model.tflite")

    @pytest.mark.parametrize("name", ["model.onnx", "model.pb", "model", "photo.jpg"])
    def test_another_kind_of_file(self, name: str, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(b"whatever")
        with pytest.raises(ModelError, match=f"{name}: neither a Keras model .* nor a SavedModel folder"):
            open_network(tmp_path / name)

    @pytest.mark.parametrize("name", ["bad.keras", "bad.h5"])
    @pytest.mark.parametrize("content", [b"", b"this is not a model" * 100], ids=["empty", "garbage"])
    def test_damaged(self, name: str, content: bytes, tmp_path: Path) -> None:
        (tmp_path / name).write_bytes(content)
        with pytest.raises(ModelError, match=f"{name}: Keras cannot load this model") as caught:
            open_network(tmp_path / name)
        assert "\n" not in str(caught.value)

    @pytest.mark.parametrize("suffix", [".keras", ".h5"])
    def test_cut_off(self, suffix: str, tmp_path: Path) -> None:
        path = tmp_path / f"net{suffix}"
        classifier().save(path)
        path.write_bytes(path.read_bytes()[: path.stat().st_size // 2])
        with pytest.raises(ModelError, match="Keras cannot load this model"):
            open_network(path)

    def test_weights_without_a_network(self, tmp_path: Path) -> None:
        classifier().save_weights(tmp_path / "net.weights.h5")
        with pytest.raises(ModelError, match="Keras cannot load this model"):
            open_network(tmp_path / "net.weights.h5")

    def test_a_layer_that_only_its_maker_has(self, tmp_path: Path) -> None:
        class Secret(layers.Layer):  # type: ignore[name-defined]
            def call(self, x: Any) -> Any:
                return x

        classifier(Secret()).save(tmp_path / "net.keras")
        with pytest.raises(ModelError, match="Secret"):
            open_network(tmp_path / "net.keras")

    def test_a_folder_of_something_else(self, photos: Path) -> None:
        with pytest.raises(ModelError, match=r"is a folder, but not a SavedModel \(no saved_model.pb in it\)"):
            open_network(photos)

    def test_a_damaged_saved_model(self, tmp_path: Path) -> None:
        (tmp_path / "saved_model.pb").write_bytes(b"\xff" * 50)
        with pytest.raises(ModelError, match="TensorFlow cannot load this SavedModel") as caught:
            open_network(tmp_path)
        assert "\n" not in str(caught.value)
