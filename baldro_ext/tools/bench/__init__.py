"""What a training step costs: our trainers, the framework's and the authors' formulas, side by side in one run."""
