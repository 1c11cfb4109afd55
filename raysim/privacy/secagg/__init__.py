"""Secure aggregation: the server learns the sum of what clients send, and nothing of any one of them.

Bonawitz et al., "Practical Secure Aggregation for Privacy-Preserving Machine Learning", CCS 2017 (`secagg`), and Bell
et al., "Secure Single-Server Aggregation with (Poly)Logarithmic Overhead", CCS 2020 (`secagg_plus`), both for a server
that follows the protocol and is curious. In a round every client (1) sends two public keys, (2) sends its neighbours
encrypted shares of two secrets, (3) sends its record with masks on it, and (4) hands out shares, by which the server
takes the masks off the sum.
"""
