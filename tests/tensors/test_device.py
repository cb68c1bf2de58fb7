"""Models of plain tensors on a device: the agent runs on this machine, behind a stand-in for ssh."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest

import edgeq
from edgeq.comparison import compare_backends
from edgeq.device.wheels import requirements
from tensors.conftest import Pair

HOST = "pi@kitchen"
CLIENT = """#!/bin/sh
for last; do :; done
export XDG_DATA_HOME={home}
PATH={python}:/usr/bin:/bin exec sh -c "$last"
"""


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A device whose commands run here, with a home of its own where all packages are in place."""
    home = tmp_path / "edgeq"
    (home / "packages").mkdir(parents=True)
    wanted = [*requirements(sys.version_info[:2]), "click>=8.1,<9"]
    (home / "installed.json").write_text(json.dumps({"packages": {"wanted": wanted, "files": []}}))
    client = tmp_path / "ssh"
    client.write_text(CLIENT.format(home=tmp_path, python=Path(sys.executable).parent))
    client.chmod(0o755)
    monkeypatch.setenv("EDGEQ_SSH", str(client))
    return HOST


def test_infer_compare_and_bench(host: str, pairs: dict[str, Pair]) -> None:
    pair = pairs["two_by_two"]
    there = list(edgeq.infer_tensors(pair.data, pair.int8, on=host, kernels="reference"))
    here = list(edgeq.infer_tensors(pair.data, pair.int8, kernels="reference"))
    assert [answer.error for answer in there] == [None] * 20
    for one, other in zip(there, here, strict=True):
        assert one.device == host
        for name, values in other.outputs.items():
            np.testing.assert_array_equal(one.outputs[name], values)
    result = edgeq.compare_tensors(pair.fp32, pair.int8, pair.data, on=host)
    local = edgeq.compare_tensors(pair.fp32, pair.int8, pair.data)
    assert result.candidate.runtime.endswith(f"on {host}")
    assert [drift.sqnr_db for drift in result.outputs] == pytest.approx([d.sqnr_db for d in local.outputs], abs=0.5)
    across = compare_backends(pair.int8, pair.data, on=host)
    assert not across.errors
    assert across.backends[2].differing_values == 0  # the reference kernels on the device
    measured = edgeq.bench(pair.int8, on=host, threads=[1], seconds=0.05, runtimes=["ai-edge-litert"])
    assert measured.measurements
