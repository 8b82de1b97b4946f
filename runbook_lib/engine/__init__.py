"""Engines: the commands that build one, the build itself, and the identity that says where it runs."""
