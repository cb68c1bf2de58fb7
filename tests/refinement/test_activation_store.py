"""Activations on disk: the same as in memory, and a full disk is an error."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import ROOT, IntegerPair

from edgeq.graphs import OperatorRunner
from edgeq.refinement import activation_store
from edgeq.refinement.activation_store import ActivationStore
from edgeq.tflite.graph import read_graph

FULL_DISK = """
import sys
import numpy as np
from edgeq.errors import InputError
from edgeq.graphs import OperatorRunner
from edgeq.refinement import activation_store
from edgeq.tflite.graph import read_graph

activation_store._IN_MEMORY_BYTES = 0
graph = read_graph(sys.argv[1])
shape = graph.tensors[graph.inputs[0]].shape
store = activation_store.ActivationStore(graph, [np.zeros((500, *shape[1:]), np.int8)])
try:
    for operator in graph.operators:
        store.run(OperatorRunner(graph, operator), operator.outputs)
except InputError as error:
    print(error)
"""


def test_on_disk_as_in_memory(blocks: IntegerPair, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = read_graph(blocks.int8)
    shape = graph.tensors[graph.inputs[0]].shape
    tensors = np.random.default_rng(0).integers(-128, 128, (7, *shape[1:]), np.int8)
    results = []
    for limit in (1 << 28, 0):
        monkeypatch.setattr(activation_store, "_IN_MEMORY_BYTES", limit)
        store = ActivationStore(graph, [tensors])
        for operator in graph.operators:
            store.run(OperatorRunner(graph, operator), operator.outputs)
        assert list(store.values) == list(graph.outputs)  # all others have been let go of
        results.append(store.values[graph.outputs[0]])
    assert [isinstance(result.base, np.memmap) or isinstance(result, np.memmap) for result in results] == [False, True]
    np.testing.assert_array_equal(results[0], results[1])


def test_a_full_disk_is_an_error_and_does_not_end_the_process(blocks: IntegerPair, tmp_path: Path) -> None:
    """On a disk of 1 MB that is there for this process alone. Written to a sparse file, it would be a SIGBUS."""
    mount = ["unshare", "-rm", "sh", "-c", f'mount -t tmpfs -o size=1m none "{tmp_path}" && exec "$@"', "sh"]
    if not shutil.which("unshare") or subprocess.run([*mount, "true"], capture_output=True, check=False).returncode:
        pytest.skip("no rights to mount a disk")
    done = subprocess.run(
        [*mount, sys.executable, "-c", FULL_DISK, str(blocks.int8)],
        env={**os.environ, "PYTHONPATH": str(ROOT), "TMPDIR": str(tmp_path)},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done
    assert done.stdout.startswith(f"{tmp_path}: cannot reserve ")
    assert "TMPDIR" in done.stdout
