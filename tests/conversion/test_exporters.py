"""Exports of PyTorch and ONNX files, with stand-ins for the tools; scripts/check-exporters runs the real ones."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from textwrap import dedent

import pytest
from conftest import ROOT

from edgeq.conversion.exporters import export_tflite
from edgeq.errors import ConversionError, EdgeqError, InputError, ModelError

TFLITE = "b'\\x1c\\0\\0\\0TFL3'"
LAYOUT = "The input's layout was changed from channels first (NCHW) to channels last (NHWC)."
BATCH = "The batch size, which was left open, was set to 1."

TORCH = """

    from types import SimpleNamespace

    __version__ = "2.13.0"


    class Tensor:
        def __init__(self, *shape, dtype="torch.float32"):
            self.shape, self.dtype = shape, dtype

        def detach(self):
            return self

        def __getitem__(self, part):
            return Tensor(1, *self.shape[1:])

        def permute(self, *order):
            return Tensor(*(self.shape[i] for i in order))

        def contiguous(self):
            return self


    def program(*inputs, train=False, constraints=None):
        schema = SimpleNamespace(arguments=[SimpleNamespace(name="input"), SimpleNamespace(name="train")])
        node = SimpleNamespace(target=SimpleNamespace(_schema=schema), args=("x", train), kwargs={})
        return SimpleNamespace(
            example_inputs=(inputs, {}),
            range_constraints=constraints or {},
            graph=SimpleNamespace(nodes=[node]),
            module=lambda: "module",
        )


    def load(path):
        text = open(path).read()
        if text.startswith("damaged"):
            raise RuntimeError("PytorchStreamReader failed\\nreading zip archive")
        return eval(text)


    export = SimpleNamespace(load=load)
"""
LITERT_TORCH = f"""
    import os, pathlib, sys

    print("chatter of the tool")


    def to_channel_last_io(module, args):
        return module + " NHWC"


    class Model:
        def __init__(self, content):
            self.content = content

        def export(self, path):
            pathlib.Path(path).write_bytes(self.content)
            if os.environ.get("TOOL") == "dies halfway":
                os.kill(os.getpid(), 9)


    def convert(module, inputs):
        if os.environ.get("TOOL") == "raises":
            raise ValueError("no lowering for aten.foo\\nat line 3")
        if os.environ.get("TOOL") == "exits":
            print("\\x1b[31mERROR:\\x1b[0m operator Foo is not supported")
            print("bye")
            sys.exit(1)
        if os.environ.get("TOOL") == "writes rubbish":
            return Model(b"rubbish")
        return Model({TFLITE} + f"{{module}} {{inputs[0].shape}}".encode())
"""


@pytest.fixture
def tool(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Stand-ins for PyTorch and litert-torch; returns a folder to work in."""
    modules = tmp_path / "modules"
    modules.mkdir()
    (modules / "torch.py").write_text(dedent(TORCH))
    (modules / "litert_torch.py").write_text(dedent(LITERT_TORCH))
    monkeypatch.syspath_prepend(str(modules))
    monkeypatch.setenv("PYTHONPATH", str(modules))
    work = tmp_path / "work"
    work.mkdir()
    return work


def saved(folder: Path, program: str, name: str = "flowers.pt2") -> Path:
    (folder / name).write_text(program)
    return folder / name


class TestTorch:
    def test_a_program_becomes_channels_last(self, tool: Path) -> None:
        out = tool / "new" / "flowers.tflite"
        assert export_tflite(saved(tool, "program(Tensor(1, 3, 96, 64))"), out) == (LAYOUT,)
        assert out.read_bytes()[8:] == b"module NHWC (1, 96, 64, 3)"

    def test_channels_last_stays(self, tool: Path) -> None:
        assert export_tflite(saved(tool, "program(Tensor(1, 96, 64, 3))"), tool / "a.tflite") == ()
        assert (tool / "a.tflite").read_bytes()[8:] == b"module (1, 96, 64, 3)"

    def test_an_open_batch_becomes_one(self, tool: Path) -> None:
        source = saved(tool, "program(Tensor(8, 3, 96, 64), constraints={'s0': '1..9'})")
        assert export_tflite(source, tool / "a.tflite") == (BATCH, LAYOUT)
        assert (tool / "a.tflite").read_bytes()[8:] == b"module NHWC (1, 96, 64, 3)"

    @pytest.mark.parametrize(
        ("program", "reason"),
        [
            (
                "damaged",
                "PyTorch 2.13.0 cannot load this file; torch.export.save makes such files "
                "(PytorchStreamReader failed reading zip archive)",
            ),
            ("program(Tensor(1, 3, 9, 9), train=True)", "was exported in training mode"),
            (
                "program(Tensor(8, 3, 9, 9))",
                "was exported for batches of 8; export it with an example input of batch 1",
            ),
            ("program(Tensor(1, 3, 9, 9), Tensor(1, 4))", "has 2 example inputs; needs exactly one"),
            ("program()", "has 0 example inputs; needs exactly one"),
            ("program(Tensor(1, 3, 9, 9, dtype='torch.float16'))", "takes float16; only float32"),
        ],
        ids=["damaged", "training", "batch", "inputs", "none", "float16"],
    )
    def test_an_unsuitable_program(self, tool: Path, program: str, reason: str) -> None:
        source = saved(tool, program)
        with pytest.raises(ModelError) as raised:
            export_tflite(source, tool / "a.tflite")
        assert str(raised.value).startswith(f"{source}: {reason}")
        assert "\n" not in str(raised.value)
        assert sorted(tool.iterdir()) == [source]

    @pytest.mark.parametrize(
        ("tool_does", "reason"),
        [
            ("raises", "litert-torch cannot export it: ValueError: no lowering for aten.foo at line 3"),
            ("exits", "litert-torch ended with exit code 1: operator Foo is not supported"),
            ("dies halfway", "litert-torch was killed (signal 9), which most often means that memory ran out"),
            ("writes rubbish", "litert-torch did not write a .tflite file"),
        ],
    )
    def test_a_failure_leaves_nothing_behind(
        self, tool: Path, monkeypatch: pytest.MonkeyPatch, tool_does: str, reason: str
    ) -> None:
        source, out = saved(tool, "program(Tensor(1, 3, 9, 9))"), tool / "flowers.tflite"
        out.write_bytes(b"an older file")
        monkeypatch.setenv("TOOL", tool_does)
        with pytest.raises(ConversionError) as raised:
            export_tflite(source, out)
        assert str(raised.value).startswith(f"{source}: {reason}")
        assert "\n" not in str(raised.value)
        assert out.read_bytes() == b"an older file"
        assert sorted(tool.iterdir()) == [source, out]

    @pytest.mark.parametrize("verbose", [False, True])
    def test_chatter_is_hidden_unless_verbose(
        self, tool: Path, capfd: pytest.CaptureFixture[str], verbose: bool
    ) -> None:
        export_tflite(saved(tool, "program(Tensor(1, 3, 9, 9))"), tool / "a.tflite", verbose=verbose)
        assert capfd.readouterr() == ("", "chatter of the tool\n" if verbose else "")


ONNX = """
    from types import SimpleNamespace as Some


    def value(name, *shape):
        dim = [Some(dim_value=0, dim_param=n) if isinstance(n, str) else Some(dim_value=n) for n in shape]
        return Some(name=name, type=Some(tensor_type=Some(elem_type=1, shape=Some(dim=dim))))


    def load(path):
        text = open(path).read()
        if text.startswith("damaged"):
            raise ValueError("Wire format was corrupt")
        inputs, output = eval(text)
        return Some(graph=Some(initializer=[], input=inputs, output=[output], value_info=["old"], node=["Conv"]))


    def save(model, path):
        values = model.graph.input + model.graph.output
        shapes = [[size.dim_value for size in value.type.tensor_type.shape.dim] for value in values]
        open(path, "w").write(f"{shapes} {model.graph.value_info}")


    TensorProto = Some(DataType=Some(Name=lambda number: {1: "FLOAT"}[number]))
"""
ONNX2TF = f"""
    import pathlib


    def convert(input_onnx_file_path, output_folder_path, non_verbose, **options):
        folder = pathlib.Path(output_folder_path)
        folder.mkdir()
        (folder / "model_float16.tflite").write_bytes(b"half")
        text = pathlib.Path(input_onnx_file_path).read_text() + str(sorted(options.items()))
        (folder / "model_float32.tflite").write_bytes({TFLITE} + text.encode())
"""


@pytest.fixture
def command(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A stand-in for the command onnx2tf in a separate environment; returns a folder to work in."""
    modules, commands, work = tmp_path / "modules", tmp_path / "environment" / "bin", tmp_path / "work"
    for folder in (modules, commands, work):
        folder.mkdir(parents=True)
    (modules / "onnx.py").write_text(dedent(ONNX))
    (modules / "onnx2tf.py").write_text(dedent(ONNX2TF))
    (commands / "onnx2tf").write_text("#!/bin/sh\n")
    (commands / "python").write_text(f'#!/bin/sh\nPYTHONPATH={modules} exec {sys.executable} "$@"\n')
    for file in commands.iterdir():
        file.chmod(0o755)
    (tmp_path / "onnx2tf").symlink_to(commands / "onnx2tf")  # as pipx does
    monkeypatch.setenv("PATH", str(tmp_path) + os.pathsep + os.environ["PATH"])
    return work


class TestOnnx:
    def test_the_tool_in_a_separate_environment(self, command: Path) -> None:
        source = saved(command, "[value('image', 1, 3, 96, 64)], value('logits', 1, 5)", "flowers.onnx")
        assert export_tflite(source, command / "a.tflite") == (LAYOUT,)
        assert (command / "a.tflite").read_bytes()[8:] == b"[[1, 3, 96, 64], [1, 5]] ['old'][]"

    def test_an_open_batch_becomes_one(self, command: Path) -> None:
        source = saved(command, "[value('image', 'N', 3, 96, 64)], value('logits', 'N', 5)", "flowers.onnx")
        assert export_tflite(source, command / "a.tflite") == (BATCH, LAYOUT)
        assert (command / "a.tflite").read_bytes()[8:] == b"[[1, 3, 96, 64], [1, 5]] [][]"

    def test_channels_last_stays(self, command: Path) -> None:
        source = saved(command, "[value('image', 1, 96, 64, 3)], value('logits', 1, 5)", "flowers.onnx")
        assert export_tflite(source, command / "a.tflite") == ()
        assert b"('keep_shape_absolutely_input_names', ['image'])" in (command / "a.tflite").read_bytes()

    @pytest.mark.parametrize(
        ("content", "reason"),
        [
            ("damaged", "cannot be loaded as ONNX (Wire format was corrupt)"),
            ("[value('a', 'N', 3, 'H', 'W')], value('b', 'N', 5)", "leaves its input size open (N x 3 x H x W)"),
            ("[value('a', 4, 3, 8, 8)], value('b', 4, 5)", "was exported for batches of 4"),
            ("[value('a', 1, 3), value('b', 1, 3)], value('c', 1, 5)", "has 2 inputs; needs exactly one"),
        ],
        ids=["damaged", "size", "batch", "inputs"],
    )
    def test_an_unsuitable_file(self, command: Path, content: str, reason: str) -> None:
        source = saved(command, content, "flowers.onnx")
        with pytest.raises(ModelError) as raised:
            export_tflite(source, command / "a.tflite")
        assert str(raised.value).startswith(f"{source}: {reason}")
        assert sorted(command.iterdir()) == [source]


class TestRefusal:
    @pytest.mark.parametrize(
        ("suffix", "install"), [("pt2", r"pip install 'edgeq\[torch\]'"), ("onnx", "pipx install 'onnx2tf>=2.6'")]
    )
    def test_the_tool_is_not_installed(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, suffix: str, install: str
    ) -> None:
        monkeypatch.setenv("PATH", str(tmp_path))
        monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
        (tmp_path / f"a.{suffix}").touch()
        with pytest.raises(EdgeqError, match=f"which is not installed: {install}"):
            export_tflite(tmp_path / f"a.{suffix}", tmp_path / "a.tflite")
        assert not (tmp_path / "a.tflite").exists()

    @pytest.mark.parametrize(
        ("name", "reason"),
        [
            ("missing.pt2", "no such model"),
            ("missing.onnx", "no such model"),
            ("weights.pth", "contains weights or a pickled module; .*torch.export.save.*'weights.pt2'"),
            ("network.keras", r"neither a program of torch.export \(.pt2\) nor an ONNX file \(.onnx\)"),
        ],
    )
    def test_the_file_is_not_one(self, tmp_path: Path, name: str, reason: str) -> None:
        with pytest.raises(InputError, match=reason):
            export_tflite(tmp_path / name, tmp_path / "a.tflite")

    def test_the_output_cannot_be_written(self, tool: Path) -> None:
        source = saved(tool, "program(Tensor(1, 3, 9, 9))")
        with pytest.raises(InputError, match="cannot write"):
            export_tflite(source, source / "a.tflite")


def test_importing_the_module_imports_no_tool() -> None:
    program = (
        "import sys, edgeq.conversion.exporters; print({'torch', 'tensorflow', 'onnx', 'keras'} & set(sys.modules))"
    )
    done = subprocess.run([sys.executable, "-c", program], cwd=ROOT, capture_output=True, text=True, check=True)
    assert done.stdout == "set()\n"
