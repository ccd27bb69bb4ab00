"""The two ways of fitting, textbook and untuned, put together."""
