"""The method in open-unlearning: trainers, a metric, names of runs, and their registration."""
