"""The main road: its phases, their gates, and the levers it tries."""
