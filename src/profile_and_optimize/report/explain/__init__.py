"""One number of a report taken apart: formula, values on the way, trials, records, context, command, and what to type."""
