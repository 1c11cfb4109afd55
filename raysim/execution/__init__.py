"""How rounds are worked on: clients, server, scheduling, placement, preparation. Knows nothing of Ray."""
