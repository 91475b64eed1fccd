"""Training: engine (alone importing Accelerate, DeepSpeed), loops, checkpoints, objectives."""
