"""Networks and training steps of ours, written the usual way in PyTorch, to compare with."""
