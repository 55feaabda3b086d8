"""Recipes, one file each; loaded by path."""
