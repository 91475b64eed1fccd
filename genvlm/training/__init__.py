"""Training: the engine (the only importer of Accelerate and DeepSpeed), loops, checkpoints, objectives."""
