"""Training: `experiment` is what is trained, `train_step` the step, `train` the loop."""
