"""Privacy: stages that clip and add noise, what they cost, secure aggregation, homomorphic encryption, attacks."""
