"""What `pao verify` is made of."""
