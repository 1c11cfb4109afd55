"""Homomorphic encryption: clients send ciphertexts, the server adds them, and the holder of the key decrypts the sum.

Who has what: a key holder beside the server makes new keys for every round. Clients have the public key and encrypt,
the server adds, the key holder is given the ciphertext of the sum alone and returns its values. Server and key holder
together could decrypt a single record; neither can alone. On Ray the key holder is an actor of its own.
"""
