"""What the operator sees. Pixels only."""
