"""Builders of the data that ships with the package, and of features for graphs of one's own.

Users of built data never import them. What they need is in the extras `build-data` and `encode`.
"""
