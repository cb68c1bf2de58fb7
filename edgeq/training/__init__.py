"""Train a network: its head, its head and top blocks, or all layers from scratch.

Importing this package does not import TensorFlow; training does.
"""

from __future__ import annotations

from edgeq.training.history import Epoch, History
from edgeq.training.photos import PhotoSet, read_photos, write_photo_list
from edgeq.training.plan import TrainingPlan
from edgeq.training.run_directory import can_resume, epochs_so_far
from edgeq.training.train import Trained, train

__all__ = [
    "Epoch",
    "History",
    "PhotoSet",
    "Trained",
    "TrainingPlan",
    "can_resume",
    "epochs_so_far",
    "read_photos",
    "train",
    "write_photo_list",
]
