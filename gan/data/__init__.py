"""Datasets by name, and batches as a pure function of (seed, index)."""

from gan.data import sources as sources
from gan.data.batches import Data as Data
from gan.data.batches import batch_at as batch_at
from gan.data.dataset import DATASETS as DATASETS
from gan.data.dataset import Batch as Batch
from gan.data.dataset import Dataset as Dataset
from gan.data.dataset import Examples as Examples
from gan.data.dataset import check_examples as check_examples
from gan.data.loaders import Loader as Loader
