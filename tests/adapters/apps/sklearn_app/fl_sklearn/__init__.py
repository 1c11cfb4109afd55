"""An app in the layout of Flower's sklearn example, with a NumPyClient and server_fn."""
