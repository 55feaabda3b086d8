"""Differentiable two-player games: the adversarial game of two networks, and games with known answers."""

from gan.games.adversarial import AdversarialGame as AdversarialGame
from gan.games.dirac import DiracGame as DiracGame
from gan.games.game import GAMES as GAMES
from gan.games.game import Game as Game
from gan.games.quadratic import QuadraticGame as QuadraticGame
