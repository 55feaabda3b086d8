"""Small games whose solution is known: trajectories, and the rates that theory predicts."""
