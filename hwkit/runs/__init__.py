"""What protects an evening: checkpoints, resume, locks, several processes, and images made once."""
