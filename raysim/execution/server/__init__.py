"""The server's step."""
