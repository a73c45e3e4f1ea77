"""Samples to intervals, comparisons and calls. Pure: no I/O, no clock, no engine."""
