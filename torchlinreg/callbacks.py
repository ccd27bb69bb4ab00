"""What to hand to ``set_callbacks``, beside scikit-learn's own callbacks."""

from torchlinreg.estimators.checkpoints import Checkpoint

__all__ = ["Checkpoint"]
