"""The values and contracts of a round that all rooms share: task, lease, executor, facts, faults, recorded rows."""
