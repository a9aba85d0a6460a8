"""Frames and results go in; a page that an operator reads from three metres comes out, served by a process of its own.

The line's process scales and encodes (feed.py), the page's process keeps the newest of everything and serves it (server.py). The second
one may be slow, hang or be killed at any time: the line does not notice, and starts it again.
"""
