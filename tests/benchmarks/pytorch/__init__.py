"""Our networks and training steps, written the usual way in PyTorch, for comparison."""
