"""Diagnosis: what the vector field of a run's game is like at its checkpoints."""
