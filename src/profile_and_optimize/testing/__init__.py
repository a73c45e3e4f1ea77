"""Fakes that we ship, a synthetic campaign, and contract tests for plugins."""
