"""From a base checkpoint to a quantized one, with the proof that it is what it says."""
