"""Comparisons of methods: the same GAN trained with each, at its own best learning rate."""
