"""What `pao accuracy_gate` is made of: two evaluations that can be compared, the document that follows from them, its table."""
