"""Model families, how they are built from configuration, and model folders."""
