"""Scores of samples, as functions of arrays: of points, pixels, or features of a network."""

from gan.evaluation.frechet import Moments as Moments
from gan.evaluation.frechet import frechet_distance as frechet_distance
from gan.evaluation.kernel import kernel_distance as kernel_distance
from gan.evaluation.marginals import Marginals as Marginals
from gan.evaluation.marginals import inception_score as inception_score
from gan.evaluation.mixtures import mixture_scores as mixture_scores
from gan.evaluation.neighbours import neighbour_scores as neighbour_scores
from gan.evaluation.vendi import diversity as diversity
