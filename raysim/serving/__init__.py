"""The live page: runs and studies of a folder in a browser, as they go on. Reads their files, and writes none."""

from raysim.serving.server import LivePage, serve

__all__ = ["LivePage", "serve"]
