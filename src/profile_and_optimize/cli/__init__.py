"""Thin: parse, call ops, print."""
