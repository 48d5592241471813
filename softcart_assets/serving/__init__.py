"""Answers for people at a desk: the call centre's API and its screen.

The modules here know tokens, limits, the log of look-ups and the page around the answers. What is
answered about whom is a line of business's own: a folder with its name, as for its Spark jobs. Its
package has a `DESK`.
"""
