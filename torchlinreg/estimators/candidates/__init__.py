"""What a grid is made of, and how its candidates are scored."""
