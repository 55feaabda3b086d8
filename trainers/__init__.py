"""Ways to run a training: `experiment` what is trained, `train_step` the step, `loop` the loop."""
