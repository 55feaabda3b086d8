"""Datasets by name, and batches that are a pure function of (seed, index)."""

from gan.data import digits, gaussians, images, noise, tfds
from gan.data.batches import Data as Data
from gan.data.batches import batch_at as batch_at
from gan.data.dataset import DATASETS as DATASETS
from gan.data.dataset import Batch as Batch
from gan.data.dataset import Dataset as Dataset

__all__ = [
    "DATASETS",
    "Batch",
    "Data",
    "Dataset",
    "batch_at",
    "digits",
    "gaussians",
    "images",
    "noise",
    "tfds",
]
