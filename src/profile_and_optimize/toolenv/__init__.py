"""Pinned virtual environments for the heavy tools: what is there, what is missing, how it is built.

Start at `install.py`; `preflight.py` says beforehand what this machine lacks; `find.py` finds what was built.
Nothing heavy is ever imported into our own process: a tool is driven as a subprocess of its environment.
"""
