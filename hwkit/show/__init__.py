"""What is looked at: figures, the timestep slider, and the report."""
