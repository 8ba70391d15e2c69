"""Trainers of other projects that the method is put into."""
