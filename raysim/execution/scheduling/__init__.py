"""Which worker trains which clients, and when."""
