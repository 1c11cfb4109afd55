"""An app in the layout of Flower's custom strategy example."""
