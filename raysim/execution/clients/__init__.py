"""The worker: it trains leases of clients and evaluates models."""
