"""Models of other paradigms, for comparison with the mixed-modal transformer."""
