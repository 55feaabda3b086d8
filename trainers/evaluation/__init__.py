"""Evaluation: features of examples, metrics of them, and results with their protocol."""
