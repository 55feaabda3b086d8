"""Differentiable two-player games: that of two networks, and small games with a known solution.

A new file is found by itself.
"""

from gan.games.adversarial import AdversarialGame as AdversarialGame
from gan.games.game import GAMES as GAMES
from gan.games.game import Game as Game
from gan.registry import import_all

import_all(__name__, __path__)
