"""A deterministic OpenAI-compatible server that tells the exact moment it sent each chunk: the yardstick for clients."""
