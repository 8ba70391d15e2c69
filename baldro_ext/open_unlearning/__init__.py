"""The method in open-unlearning: trainers, a metric, resolvers, Hydra callbacks, and their registration."""
