"""What is chosen before and around a training: the layer, the learning rate, the other settings."""
