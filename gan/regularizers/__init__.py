"""Regularizers: penalties that are added to the loss of a player. Every module here is imported."""

from gan.registry import import_all
from gan.regularizers.regularizer import REGULARIZERS as REGULARIZERS
from gan.regularizers.regularizer import Critic as Critic
from gan.regularizers.regularizer import Every as Every
from gan.regularizers.regularizer import PenaltyInputs as PenaltyInputs
from gan.regularizers.regularizer import Regularizer as Regularizer
from gan.regularizers.regularizer import Weight as Weight

import_all(__name__, __path__)
