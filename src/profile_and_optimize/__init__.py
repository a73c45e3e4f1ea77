"""profile-and-optimize: what exactly should we serve, and how do we know?"""

__version__ = "0.1.0"
