"""How good images are: features, distances, scores, copies, and the check before they are handed in."""
