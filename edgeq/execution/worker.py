"""One model under one runtime in a process of its own, as runtimes cannot live together.

``python -m edgeq.execution.worker`` reads a frame (:mod:`edgeq.execution.frames`) that says what to load, then frames
of input tensors, and answers each with the output. It ends when its standard input does.
"""

from __future__ import annotations

import os
import sys

from edgeq.errors import EdgeqError, one_line
from edgeq.execution.frames import read_frame, write_frame

__all__ = ["main"]


def main() -> None:
    """Serve one place until standard input ends."""
    import numpy as np

    from edgeq.runtime.backends import make_interpreter

    answers = os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)  # what native libraries print is no answer
    requests = sys.stdin.buffer
    try:
        request, _ = read_frame(requests)
        runtime, interpreter = make_interpreter(request["path"], request["runtime"], 1, request["kernels"])
        write_frame(answers, {"runtime": runtime})
        (source,), (scores,) = interpreter.get_input_details(), interpreter.get_output_details()
        while True:
            _, payload = read_frame(requests)
            interpreter.set_tensor(source["index"], np.frombuffer(payload, source["dtype"]).reshape(source["shape"]))
            interpreter.invoke()
            output = interpreter.get_tensor(scores["index"])
            write_frame(answers, {"dtype": str(output.dtype), "shape": list(output.shape)}, output.tobytes())
    except EOFError:
        return
    except (EdgeqError, RuntimeError, ValueError) as error:
        write_frame(answers, {"error": one_line(error)})


if __name__ == "__main__":
    main()
