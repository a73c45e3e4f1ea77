"""The run folder: what is written, in which order, chained, and kept free of secrets."""
