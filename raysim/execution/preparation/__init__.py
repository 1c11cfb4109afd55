"""From an experiment to a job: checks and automatic choices before the first round."""
