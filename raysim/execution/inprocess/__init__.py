"""The executor without Ray."""
