"""Studies of profiles whose open answers go to no judge: the real models' layers and measures."""
