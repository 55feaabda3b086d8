"""Scores of samples: one metric a file; a new file is found by itself."""

from gan.metrics.metric import METRICS as METRICS
from gan.metrics.metric import Metric as Metric
from gan.metrics.metric import Need as Need
from gan.metrics.metric import Score as Score
from gan.metrics.metric import higher_is_better as higher_is_better
from gan.metrics.summary import Summary as Summary
from gan.registry import import_all

import_all(__name__, __path__)
