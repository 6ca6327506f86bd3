"""Builders of the data that ships with the package; users of the built data never import them.

The packages they need are the extra `build-data`.
"""
