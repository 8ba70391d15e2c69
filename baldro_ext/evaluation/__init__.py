"""What is measured of a model after unlearning."""
