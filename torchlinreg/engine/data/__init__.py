"""The rows: iterate over them, multiply by them, reduce them."""
