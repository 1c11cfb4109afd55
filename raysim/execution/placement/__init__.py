"""How many actors fit on which machine."""
