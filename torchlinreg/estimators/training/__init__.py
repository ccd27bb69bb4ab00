"""What surrounds the training of an estimator: callbacks, early stopping, the state of a stream, warnings.

Imports: parameters.
"""
