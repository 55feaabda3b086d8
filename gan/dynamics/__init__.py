"""How the two players move: one dynamics a file; a new file is found by itself."""

from gan.dynamics.dynamics import DYNAMICS as DYNAMICS
from gan.dynamics.dynamics import Dynamics as Dynamics
from gan.dynamics.dynamics import LinearMap as LinearMap
from gan.dynamics.dynamics import LinearOptimizer as LinearOptimizer
from gan.dynamics.dynamics import StepOutput as StepOutput
from gan.registry import import_all

import_all(__name__, __path__)
