"""Clients: a load in, records out. Each implementation is a file; this is the table of built-ins."""

BUILT_IN = {"stream": "profile_and_optimize.clients.stream:StreamClient"}
