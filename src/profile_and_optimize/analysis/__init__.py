"""Evidence in, explained choice out. Pure: nothing here reads a clock, a disk or a network."""
