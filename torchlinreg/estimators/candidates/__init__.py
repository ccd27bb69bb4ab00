"""What `TorchLinearRegressorCV` chooses from: the settings, their folds and scores.

Imports: training, parameters.
"""
