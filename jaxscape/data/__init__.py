"""Read, make, split and batch the samples that a loss is computed on."""

from jaxscape.data.dataset import batches, split, weigh_batches_equally
from jaxscape.data.files import read_dataset
from jaxscape.data.synthetic import noisy_sine, teacher_student

__all__ = [
    "batches",
    "noisy_sine",
    "read_dataset",
    "split",
    "teacher_student",
    "weigh_batches_equally",
]
