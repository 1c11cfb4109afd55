"""An app in the layout of Flower's quickstart-pytorch."""
