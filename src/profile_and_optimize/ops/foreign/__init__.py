"""Another tool measures a cell: vLLM's own sweep, or aiperf. Its files are kept as they are; its figures are DRAFT material."""
