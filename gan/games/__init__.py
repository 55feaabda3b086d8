"""Differentiable two-player games: the adversarial game of two networks, and games with known answers."""

from gan.games.adversarial import AdversarialGame as AdversarialGame
from gan.games.bilinear import BilinearGame as BilinearGame
from gan.games.game import Game as Game
