"""Train a PyTorch copy of a network step by step, with a state that survives interruptions."""

from __future__ import annotations

import json
import math
import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from torch_copy import TorchCopy

from edgeq.files import replacing

__all__ = ["Training"]


class Training:
    """A network in training: its copy, the optimizer and the learning curve, kept in a file.

    Args:
        path: the state file. It is replaced atomically.
        network: the `keras.Model`; a finished training writes its weights there.
        recipe: settings of the training, as JSON data. A file with other settings is an error. Used here are
            `learning_rate` (the peak, for AdamW, arXiv 1711.05101), `warm_up` (the fraction of the steps in which the
            learning rate rises; then it falls to 0 along a cosine) and `weight_decay` (for the kernels and the scales
            of batch normalization).
        steps: number of steps of the whole training.
        every: smallest time between two saves, in seconds.

    Attributes:
        begins_with: description of the initial weights, as JSON data.
    """

    def __init__(self, path: Path, network: Any, recipe: dict[str, Any], steps: int, every: float) -> None:
        self.path, self.recipe, self.every = path, json.loads(json.dumps(recipe)), every
        self.steps, self.warm_up = steps, max(1, round(recipe["warm_up"] * steps))
        self.begins_with: Any = None
        self.copy = TorchCopy(network)
        biases = [value for name, value in self.copy.named_parameters() if name.endswith("bias")]
        others = [value for name, value in self.copy.named_parameters() if not name.endswith("bias")]
        self.optimizer = torch.optim.AdamW(
            [{"params": others}, {"params": biases, "weight_decay": 0.0}],
            recipe["learning_rate"],
            weight_decay=recipe["weight_decay"],
        )
        self.done = 0
        self.history: list[dict[str, float]] = []
        self.machine = f"{os.cpu_count()} CPU cores"
        self._saved = time.monotonic()
        self._continued: float | None = time.monotonic()  # None after the last step
        self._seconds_before = 0.0

    @property
    def finished(self) -> bool:
        """Whether all steps are done."""
        return self.done == self.steps

    def last(self, name: str) -> float | None:
        """Return the latest value of that name in the learning curve, or None."""
        return next((values[name] for values in reversed(self.history) if name in values), None)

    @property
    def seconds(self) -> float:
        """Training time so far, without what interruptions lost."""
        return self._seconds_before + (time.monotonic() - self._continued if self._continued is not None else 0)

    def restore(self) -> bool:
        """Continue from the state file; return whether there is one.

        Raises:
            SystemExit: the file is from a training with another recipe.
        """
        if not self.path.exists():
            return False
        saved = torch.load(self.path, weights_only=True)
        if saved["recipe"] != self.recipe:
            sys.exit(f"{self.path}: is of a training with another recipe; delete it, or choose another --state")
        self.copy.load_state_dict(saved["network"])
        if saved["optimizer"]:
            self.optimizer.load_state_dict(saved["optimizer"])
        self.done, self.history, self.machine = saved["done"], saved["history"], saved["machine"]
        self.begins_with = saved["begins_with"]
        self._seconds_before, self._continued = saved["seconds"], None if self.finished else time.monotonic()
        return True

    def step(self, loss: torch.Tensor) -> float:
        """Change the weights by the gradient of a loss; return the loss."""
        if self.done < self.warm_up:
            share = (self.done + 1) / self.warm_up
        else:
            share = (1 + math.cos(math.pi * (self.done - self.warm_up) / (self.steps - self.warm_up))) / 2
        for group in self.optimizer.param_groups:
            group["lr"] = self.recipe["learning_rate"] * share
        self.optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        self.optimizer.step()
        self.done += 1
        return loss.item()

    def record(self, values: dict[str, float]) -> None:
        """Add values to the learning curve, print them, and save the state if it is time."""
        values = {name: round(value, 4) for name, value in values.items()} | {"seconds": round(self.seconds)}
        self.history.append(values)
        if self.finished:
            self._seconds_before, self._continued = self.seconds, None
        shown = ", ".join(f"{name} {value:g}" for name, value in values.items())
        print(f"{self.path.name.split('.state')[0]} {self.done}/{self.steps}: {shown}", flush=True)
        if time.monotonic() - self._saved >= self.every or self.finished:
            self.save()

    def save(self) -> None:
        """Write the file, without the optimizer's state if the training is finished."""
        state = {
            "recipe": self.recipe,
            "begins_with": self.begins_with,
            "machine": self.machine,
            "seconds": self.seconds,
            "done": self.done,
            "history": self.history,
            "network": self.copy.state_dict(),
            "optimizer": None if self.finished else self.optimizer.state_dict(),
        }
        with replacing([self.path]) as (new,):
            torch.save(state, new)
        self._saved = time.monotonic()
