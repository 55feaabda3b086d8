"""Recipes, one per file; each is loaded by its path."""
