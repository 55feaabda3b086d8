"""Datasets by name; every module of this folder is imported and registers its own."""

from gan.registry import import_all

import_all(__name__, __path__)
