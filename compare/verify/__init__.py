"""The main job: both sides of one network, from its gradients to its training."""
