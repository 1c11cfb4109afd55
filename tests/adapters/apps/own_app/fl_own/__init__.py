"""A model and data of one's own, 100 clients, non-IID, tracked."""
