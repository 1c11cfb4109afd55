"""What an evaluation consists of, and the statistics of what it measured."""
